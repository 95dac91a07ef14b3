import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from paligemma2.model.config import PRESETS
from paligemma2.model.paligemma2 import PaliGemma2Model
from paligemma2.training.optimizer import Muon, build_optimizers, orthogonalize
from paligemma2.training.recipe import OptimizerName, Recipe


def build(module: nn.Module, name: OptimizerName, weight_decay: float = 0.1) -> list[Optimizer]:
    recipe = Recipe(
        steps=1, optimizer=name, learning_rate=0.05, muon_learning_rate=0.02, weight_decay=weight_decay
    )
    return build_optimizers(module, recipe)


@pytest.fixture(scope="module")
def tiny() -> PaliGemma2Model:
    with torch.device("meta"):
        return PaliGemma2Model(PRESETS["tiny"])


def named_groups(module: nn.Module, optimizers: list[Optimizer]) -> dict[str, tuple[str, float]]:
    """For each parameter the class of its optimiser and its weight decay."""
    names = {id(p): name for name, p in module.named_parameters()}
    return {
        names[id(p)]: (type(optimizer).__name__, group["weight_decay"])
        for optimizer in optimizers
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_adamw_takes_the_step_of_the_formula_with_decoupled_decay() -> None:
    rng = np.random.default_rng(0)
    module = nn.Linear(3, 2)
    (optimizer,) = build(module, "adamw", weight_decay=0.1)
    weights = {name: p.detach().double().numpy().copy() for name, p in module.named_parameters()}
    first = {name: np.zeros_like(w) for name, w in weights.items()}
    second = {name: np.zeros_like(w) for name, w in weights.items()}
    for step in range(1, 6):
        for name, p in module.named_parameters():
            grad = rng.normal(size=tuple(p.shape))
            p.grad = torch.tensor(grad, dtype=torch.float32)
            first[name] = 0.9 * first[name] + 0.1 * grad
            second[name] = 0.999 * second[name] + 0.001 * grad**2
            update = first[name] / (1 - 0.9**step) / (np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
            decay = 0.1 if name == "weight" else 0.0
            weights[name] -= 0.05 * (update + decay * weights[name])
        optimizer.step()
    for name, p in module.named_parameters():
        np.testing.assert_allclose(p.detach().numpy(), weights[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_trainable_parameter_is_in_exactly_one_optimiser_once(
    tiny: PaliGemma2Model, name: OptimizerName
) -> None:
    groups = [group["params"] for optimizer in build(tiny, name) for group in optimizer.param_groups]
    ids = [id(p) for p in itertools.chain.from_iterable(groups)]
    assert len(ids) == len(set(ids))
    assert set(ids) == {id(p) for p in tiny.parameters()}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_frozen_parameters_are_in_no_optimiser(name: OptimizerName) -> None:
    with torch.device("meta"):
        model = PaliGemma2Model(PRESETS["tiny"])
    model.vision_tower.requires_grad_(False)
    covered = named_groups(model, build(model, name))
    assert covered.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any(n.startswith("vision_tower") for n in covered)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_norms_and_biases_are_not_decayed_and_matrices_are(
    tiny: PaliGemma2Model, name: OptimizerName
) -> None:
    for parameter, (_, decay) in named_groups(tiny, build(tiny, name)).items():
        is_plain = parameter.endswith("bias") or "norm" in parameter
        assert decay == (0.0 if is_plain else 0.1), parameter


def test_muon_gets_the_matrices_of_the_blocks_and_adamw_the_rest(tiny: PaliGemma2Model) -> None:
    kinds = {parameter: kind for parameter, (kind, _) in named_groups(tiny, build(tiny, "muon")).items()}
    shapes = {parameter: p.dim() for parameter, p in tiny.named_parameters()}
    muon = {parameter for parameter, kind in kinds.items() if kind == "Muon"}
    assert muon == {n for n, dim in shapes.items() if dim == 2 and ".layers." in n}
    assert len(muon) == 6 * PRESETS["tiny"].vision.num_layers + 7 * PRESETS["tiny"].text.num_layers
    for adamw in ("embed_tokens.weight", "position_embedding.weight", "multi_modal_projector.linear.weight"):
        assert next(kind for n, kind in kinds.items() if n.endswith(adamw)) == "AdamW"


def well_conditioned(rows: int, columns: int, count: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(count, rows, low, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(count, columns, low, generator=generator))
    singular = torch.empty(count, low).uniform_(0.2, 1.0, generator=generator)
    result: Tensor = 37.0 * (left * singular[:, None]) @ right.transpose(1, 2)
    return result


@pytest.mark.parametrize("shape", [(16, 16), (64, 16), (16, 64), (160, 40), (1, 8), (8, 1)])
def test_orthogonalised_matrices_have_singular_values_around_one(shape: tuple[int, int]) -> None:
    matrices = well_conditioned(*shape)
    result = orthogonalize(matrices)
    assert result.shape == matrices.shape
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.6
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(24, 12), (12, 24)])
def test_the_orthogonalised_matrix_points_where_the_nearest_orthogonal_one_does(
    shape: tuple[int, int],
) -> None:
    matrices = well_conditioned(*shape)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    nearest = (u @ v).flatten(1)
    cosine = torch.cosine_similarity(orthogonalize(matrices).flatten(1), nearest)
    assert (cosine > 0.97).all()


def test_stacked_matrices_do_not_influence_each_other() -> None:
    matrices = well_conditioned(12, 20)
    matrices[0] *= 1e4
    one_by_one = torch.cat([orthogonalize(m[None]) for m in matrices])
    torch.testing.assert_close(orthogonalize(matrices), one_by_one, rtol=1e-4, atol=1e-5)


def test_a_zero_gradient_gives_no_update() -> None:
    assert torch.equal(orthogonalize(torch.zeros(1, 4, 6)), torch.zeros(1, 4, 6))


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_muon_agrees_with_that_of_pytorch(shape: tuple[int, int], decay: float) -> None:
    start = well_conditioned(*shape, count=2) / 37
    ours = [nn.Parameter(m.clone()) for m in start]
    theirs = [nn.Parameter(m.clone()) for m in start]
    mine = Muon(ours, lr=0.02, momentum=0.9, weight_decay=decay)
    reference: Optimizer = torch.optim.Muon(
        theirs, lr=0.02, momentum=0.9, weight_decay=decay, nesterov=True, adjust_lr_fn="original"
    )
    for step in range(5):
        grads = well_conditioned(*shape, count=2, seed=10 + step)
        for pair, grad in zip(zip(ours, theirs, strict=True), grads, strict=True):
            for parameter in pair:
                parameter.grad = grad.clone()
        mine.step()
        reference.step()
    for a, b, begin in zip(ours, theirs, start, strict=True):
        moved = (b - begin).norm()
        assert moved > 0.1
        assert (a - b).norm() < 0.02 * moved  # their iteration runs in bfloat16


def test_muon_leaves_parameters_without_gradient_alone() -> None:
    with_grad, without = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    with_grad.grad = torch.eye(3)
    optimizer = Muon([with_grad, without], lr=0.1, weight_decay=0.5)
    assert optimizer.step(lambda: 4.0) == 4.0
    assert torch.equal(without, torch.ones(3, 3))
    assert not torch.equal(with_grad, torch.ones(3, 3))
