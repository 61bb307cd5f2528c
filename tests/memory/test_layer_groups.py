"""Groups of equal layers: together they are the model, and the typical group comes first."""

import pytest

from attention.catalog import published
from attention.memory.layer_groups import layer_groups
from attention.spec import Kind, Layer, ModelSpec, attention_layer


def test_groups_and_labels():
    sliding, full = attention_layer(15, 5, 7, window=1024), attention_layer(15, 3, 7)
    readers = tuple(Layer(Kind.SHARED, (), 15, 7, 7, shares=i) for i in (0, 1))
    groups = layer_groups(ModelSpec("m", (full, sliding, sliding, *readers)))
    assert [g.indices for g in groups] == [(1, 2), (0,), (3, 4)]
    assert [g.label for g in groups] == [
        "sliding 1k · 5 K/V heads · 2 layers",
        "full · 3 K/V heads · 1 layer",
        "shared · 2 layers",
    ]


@pytest.mark.parametrize("row", [r for r in published.models() if r.spec], ids=lambda r: r.id)
def test_every_layer_is_in_one_group(row):
    groups = layer_groups(row.spec)
    assert sorted(i for g in groups for i in g.indices) == list(range(row.spec.n_layers))
    assert groups[0].layer == (row.spec.attention_layer or groups[0].layer)
