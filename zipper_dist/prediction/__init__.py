"""What a saved network says of images, and whether an attack changes that."""
