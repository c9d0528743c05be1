"""What happens before the loop: materials, placement, the state at iteration 0."""
