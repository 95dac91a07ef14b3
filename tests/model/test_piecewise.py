import torch

from paligemma2.model.config import VisionConfig
from paligemma2.model.piecewise import Piecewise, finish
from paligemma2.model.siglip import SiglipEncoder


def counted(log: list[int], pieces: int) -> Piecewise[str]:
    for piece in range(pieces):
        log.append(piece)
        yield
    return "done"


def test_the_rest_is_done_and_its_value_comes_back() -> None:
    log: list[int] = []
    work = counted(log, 4)
    next(work)
    assert log == [0]
    assert finish(work) == "done"
    assert log == [0, 1, 2, 3]
    assert finish(counted(log, 0)) == "done"


def test_an_encoder_stops_after_each_layer() -> None:
    config = VisionConfig(image_size=28, hidden_size=8, num_layers=3, num_heads=2, intermediate_size=8)
    encoder = SiglipEncoder(config).eval()
    pixels = torch.randn(1, 3, 28, 28)
    assert len(list(encoder.in_pieces(pixels))) == 3
    assert torch.equal(finish(encoder.in_pieces(pixels)), encoder(pixels))
