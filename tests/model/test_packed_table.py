import pytest
import torch
from torch import Tensor, nn

from paligemma2.model import packed_table
from paligemma2.model.packed_table import BlockKernel, PackedTable

PLAIN = BlockKernel(
    pack=Tensor.clone,
    unpack=Tensor.clone,
    multiply=lambda x, blocks: torch.cat([x @ block.T for block in blocks], dim=-1),
    bytes_per_weight=4,
    rows=16,
    threads=2,
)


@pytest.fixture
def table() -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(60, 4)


def test_blocks_keep_their_order(table: nn.Embedding) -> None:
    hidden = torch.randn(2, 3, 4)
    torch.testing.assert_close(PackedTable(table, PLAIN).logits(hidden), hidden @ table.weight.T)


def test_a_block_is_unpacked_once_for_all_its_new_tokens(table: nn.Embedding) -> None:
    unpacked: list[Tensor] = []

    def unpack(block: Tensor) -> Tensor:
        unpacked.append(block)
        return block.clone()

    kernel = BlockKernel(
        pack=Tensor.clone, unpack=unpack, multiply=PLAIN.multiply, bytes_per_weight=4, rows=16
    )
    packed = PackedTable(table, kernel)
    ids = torch.tensor([[0, 15, 16], [59, 7, 7]])
    assert torch.equal(packed(ids), table(ids))
    assert len(unpacked) == 3
    assert torch.equal(packed(ids), table(ids))
    assert len(unpacked) == 3


def test_the_rows_that_are_remembered_do_not_grow_without_end(
    table: nn.Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_table, "_KEPT_ROWS", 5)
    packed = PackedTable(table, PLAIN)
    for start in range(0, 56, 4):
        ids = torch.tensor([start, start + 1, start + 2, start + 3, 0])
        assert torch.equal(packed(ids), table(ids))
        assert len(packed._kept) < 16
