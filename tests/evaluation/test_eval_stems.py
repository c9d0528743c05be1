"""A network whose first layers run on a part of the images says what it says of whole images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evaluation.conftest import EPS
from evaluation.helpers import small_network
from zipper_dist.attacks.autoattack import BlockRows
from zipper_dist.attacks.square import square
from zipper_dist.evaluation import views
from zipper_dist.evaluation.views import Meter, WithStem, attacked_view
from zipper_dist.models import ModelSpec, build
from zipper_dist.stems import Reach, changed_span

Set = tuple[Tensor, Tensor]
QUERIES = 200
REACHES = st.lists(st.builds(Reach, st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=4)


@pytest.fixture
def view(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> WithStem:
    """The trained network, which is narrow enough to run otherwise."""
    monkeypatch.setattr(views, "chain_of", lambda network: None)
    found = attacked_view(network)
    assert isinstance(found, WithStem)
    return found


@given(REACHES, st.integers(1, 40), st.data())
def test_the_span_that_changes(reaches: list[Reach], size: int, data: st.DataObject) -> None:
    """Against the inputs of each output, listed one by one."""
    seen = [{i} for i in range(size)]
    for reach in reaches:
        starts = range(0, len(seen) - reach.kernel + 1, reach.stride)
        seen = [set[int]().union(*seen[at : at + reach.kernel]) for at in starts]
    low = data.draw(st.integers(0, size - 1))
    high = data.draw(st.integers(low + 1, size))
    changes = [i for i, inputs in enumerate(seen) if inputs & set(range(low, high))]
    (first, last), images = changed_span(reaches, (low, high), size)
    assert set(changes) <= set(range(first, last)) <= set(range(len(seen)))
    if all(reach.stride <= reach.kernel for reach in reaches):  # none skips pixels
        assert changes == list(range(first, last))
    if first < last:
        needed = set[int]().union(*seen[first:last])
        assert (min(needed), max(needed) + 1) == images


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_maps_are_renewed_where_images_have_changed(data: st.DataObject) -> None:
    # 17 pixels: the pooling leaves a line out.
    model = build(ModelSpec("small_cnn", 2, 17, 20, 4, 1.0))
    nn.init.normal_(model.classifier.fc3.weight)  # type: ignore[union-attr, arg-type]
    view = attacked_view(model)
    assert isinstance(view, WithStem)
    batch = data.draw(st.integers(1, 10))
    images = torch.rand(batch, 2, 17, 20, generator=torch.Generator().manual_seed(batch))
    maps = view.stem.first(images)
    spans = []
    for size in (17, 20):
        low = data.draw(st.integers(0, size - 1))
        spans.append((low, data.draw(st.integers(low + 1, size))))
    rows, columns = (slice(*span) for span in spans)
    images[:, :, rows, columns] = 1 - images[:, :, rows, columns]
    view.stem.renew(maps, images, *spans)
    torch.testing.assert_close(maps, view.stem.first(images), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(view.stem.rest(maps), view(images), rtol=1e-5, atol=1e-5)


def test_square_finds_the_same_with_a_stem(view: WithStem, right: Set) -> None:
    x, y = right[0][:48], right[1][:48]
    rows = torch.arange(len(x))
    found, meters, ticks = [], [], []
    for network in (view, view.whole):
        ticked: list[int] = []
        meters.append(Meter(network, ticked.append))
        block = BlockRows(3, len(x), rows)
        found.append(square(meters[-1], x, y, block, norm="linf", eps=EPS, queries=QUERIES))
        ticks.append(ticked)
    broken = [(view(images).argmax(1) != y).tolist() for images in found]
    assert broken[0] == broken[1]
    assert 0 < sum(broken[0]) < len(x)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)
    # What is asked counts the same, and progress is told of it.
    assert meters[0].forwards == meters[1].forwards
    assert ticks[0] == ticks[1]


def test_square_runs_the_first_layers_on_a_part(view: WithStem, right: Set) -> None:
    pixels: list[int] = []
    first = view.stem.first

    def counted(images: Tensor) -> Tensor:
        pixels.append(images.shape[2] * images.shape[3])
        return first(images)

    object.__setattr__(view.stem, "first", counted)
    x, y = right[0][:20], right[1][:20]
    block = BlockRows(3, len(x), torch.arange(len(x)))
    square(Meter(view), x, y, block, norm="linf", eps=EPS, queries=QUERIES)
    assert pixels[0] == 16 * 16
    assert sum(pixels[-50:]) < 0.8 * 50 * 16 * 16, sum(pixels[-50:]) / 50


class _Twice(nn.Module):
    """Reads its first map twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1)
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        logits: Tensor = self.linear((y + self.second(y)).mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    ("layers", "length"),
    [
        ([nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(4, 4, 3)], 4),
        ([nn.Conv2d(1, 4, 3, stride=2), nn.Sigmoid()], 1),
        ([nn.Conv2d(1, 4, 3, padding=1)], 0),
        ([nn.Conv2d(1, 4, 3), nn.MaxPool2d(2, padding=1)], 1),
        ([nn.Conv2d(1, 4, 3, padding="valid"), nn.MaxPool2d(3, 2, ceil_mode=True)], 1),
        ([nn.Conv2d(1, 4, 3, dilation=2)], 0),
        ([nn.MaxPool2d(2), nn.Conv2d(1, 4, 3)], 0),
        ([nn.ReLU()], 0),
    ],
)
def test_which_layers_are_a_stem(layers: list[nn.Module], length: int) -> None:
    tail = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.LazyLinear(3)]
    model = nn.Sequential(*layers, *tail)
    images = torch.rand(9, 1, 12, 12)
    wanted = model(images)
    view = attacked_view(model)
    torch.testing.assert_close(view(images), wanted)
    if length == 0:
        assert not isinstance(view, WithStem)
        return
    assert isinstance(view, WithStem)
    has_reach = [not isinstance(layer, nn.ReLU) for layer in layers[:length]]
    assert len(view.stem.rows) == len(view.stem.columns) == sum(has_reach)
    torch.testing.assert_close(view.stem.rest(view.stem.first(images)), wanted)


def test_a_layer_with_hooks_is_no_stem() -> None:
    """They may look at all of a map."""
    convolution = nn.Conv2d(1, 4, 3)
    convolution.register_forward_hook(lambda module, given, maps: maps - maps.mean((2, 3), True))
    model = nn.Sequential(convolution, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 3))
    assert not isinstance(attacked_view(model), WithStem)


def test_networks_without_a_stem() -> None:
    images = torch.rand(9, 1, 12, 12)
    twice = _Twice()
    view = attacked_view(twice)
    torch.testing.assert_close(view(images), twice(images))
    if isinstance(view, WithStem):
        torch.testing.assert_close(view.stem.rest(view.stem.first(images)), view(images))
    assert not isinstance(attacked_view(small_network(1, 3)), WithStem)
    assert not isinstance(attacked_view(twice, torch.bfloat16), WithStem)
    assert Meter(attacked_view(small_network(1, 3))).stem is None
