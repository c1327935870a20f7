"""Random numbers: the Philox sequence, its state, and every random operator against its distribution."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from process_helpers import RunPython
from scipy import stats
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

SAMPLES = 50_000


def philox_words(seed: int, block: int, groups: int) -> np.ndarray:
    """Philox 4x32-10 of `groups` * 16 blocks in the order of csrc/torch/philox.h, in numpy."""
    mask = np.uint64(0xFFFFFFFF)
    numbers = np.arange(block, block + groups * 16, dtype=np.uint64)
    counter = [numbers & mask, numbers >> np.uint64(32), np.zeros_like(numbers), np.zeros_like(numbers)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        low = counter[0] * np.uint64(0xD2511F53)
        high = counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            (high >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]),
            high & mask,
            (low >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]),
            low & mask,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(counter).reshape(4, groups, 16).transpose(1, 0, 2).astype(np.uint32).ravel()


def raw_words(count: int, generator: torch.Generator) -> np.ndarray:
    """`count` words of the generator, a multiple of 64, read through 64-bit integers."""
    numbers = torch.empty(count // 2, dtype=torch.int64, device="gxu").random_(-(2**63), None, generator=generator)
    pairs = numbers.cpu().numpy().view(np.uint64).reshape(-1, 16)
    halves = np.stack([pairs & np.uint64(0xFFFFFFFF), pairs >> np.uint64(32)], axis=1)
    return halves.astype(np.uint32).ravel()


@pytest.fixture
def numbers_of_gxu() -> None:
    from gxu import _C

    if _C.delegates_to_cuda(0):
        pytest.skip("PyTorch's cuda kernels draw this device's numbers, from seeds of gxu's")


@pytest.mark.usefixtures("numbers_of_gxu")
def test_known_answers_of_philox() -> None:
    """The vectors that the paper's library, Random123, tests itself with."""
    assert [hex(word) for word in raw_words(64, torch.Generator("gxu").manual_seed(0))[::16]] == [
        "0x6627e8d5",
        "0xe169c58d",
        "0xbc57ac4c",
        "0x9b00dbd8",
    ]


@pytest.mark.usefixtures("numbers_of_gxu")
@pytest.mark.parametrize("seed", [1, 0xFEDCBA9876543210, 67280421310721])
def test_words_match_philox_in_numpy(seed: int) -> None:
    generator = torch.Generator("gxu").manual_seed(seed)
    generator.set_offset(4 * (2**32 - 24))  # the counter's lower word overflows within the second group
    words = raw_words(64 * 700, generator)
    np.testing.assert_array_equal(words, philox_words(seed, 2**32 - 24, 700))
    assert generator.get_offset() == 4 * (2**32 - 24) + 64 * 700


@pytest.mark.usefixtures("numbers_of_gxu")
def test_uniform_numbers_are_the_upper_bits_of_the_words() -> None:
    expected = philox_words(3, 0, 16) >> 8
    numbers = torch.rand(1000, device="gxu", generator=torch.Generator("gxu").manual_seed(3))
    np.testing.assert_array_equal(numbers.cpu().numpy(), expected[:1000].astype(np.float32) * np.float32(2**-24))


def draw_everything() -> list[Tensor]:
    """Values of every random operator, enough of them for several threads."""
    n = 100_003
    gxu = torch.device("gxu")
    weights = torch.linspace(1, 5, 1000, device=gxu)
    results = [
        *(torch.rand(n, device=gxu, dtype=dtype) for dtype in (torch.half, torch.bfloat16, torch.float, torch.double)),
        *(torch.randn(n, device=gxu, dtype=dtype) for dtype in (torch.half, torch.bfloat16, torch.float, torch.double)),
        torch.randint(0, 1000, (n,), device=gxu),
        torch.randint(0, 2**40, (n,), device=gxu),
        torch.empty(n, device=gxu, dtype=torch.int8).random_(),
        torch.empty(n, device=gxu).exponential_(2),
        torch.empty(n, device=gxu).geometric_(0.3),
        torch.empty(n, device=gxu).cauchy_(),
        torch.empty(n, device=gxu).log_normal_(),
        torch.bernoulli(torch.rand(n, device=gxu)),
        torch.empty(n, device=gxu).bernoulli_(0.3),
        torch.randn(n, device=gxu, dtype=torch.complex64),
        torch.randperm(n, device=gxu),
        torch.multinomial(weights, 500),
        torch.multinomial(weights, n, replacement=True),
        F.dropout(torch.ones(n, device=gxu), 0.3),
        F.rrelu(-torch.ones(n, device=gxu), training=True),
        torch.poisson(torch.rand(n, device=gxu)),
        torch.normal(torch.zeros(n, device=gxu), torch.ones(n, device=gxu)),
    ]
    return [result.cpu() for result in results]


def test_the_same_numbers_for_any_number_of_threads(run_python: RunPython) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(__file__.rpartition("/")[0])!r})
from test_random import fingerprint
print(fingerprint())
"""
    prints = set()
    for threads in ("1", "2"):
        result = run_python("-c", code, env={"OMP_NUM_THREADS": threads})
        assert result.returncode == 0, result.stderr
        prints.add(result.stdout)
    assert len(prints) == 1


def fingerprint() -> str:
    torch.manual_seed(11)
    parts = (hashlib.sha256(result.view(torch.uint8).numpy().tobytes()) for result in draw_everything())
    return " ".join(part.hexdigest()[:8] for part in parts)


def test_gxu_leaves_the_cpu_generator_alone() -> None:
    before = torch.get_rng_state()
    draw_everything()
    assert torch.equal(before, torch.get_rng_state())


def test_the_cpu_generator_does_not_decide() -> None:
    torch.gxu.manual_seed(4)
    first = draw_everything()
    torch.default_generator.manual_seed(99)
    torch.gxu.manual_seed(4)
    for a, b in zip(first, draw_everything(), strict=True):
        assert torch.equal(a, b)


FLOAT_DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

# Name: (fill, cumulative distribution).
CONTINUOUS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[np.ndarray], np.ndarray]]] = {
    "uniform": (lambda x: x.uniform_(-1, 3), stats.uniform(-1, 4).cdf),
    "normal": (lambda x: x.normal_(0.5, 2), stats.norm(0.5, 2).cdf),
    "exponential": (lambda x: x.exponential_(0.5), stats.expon(scale=2).cdf),
    "cauchy": (lambda x: x.cauchy_(1, 2), stats.cauchy(1, 2).cdf),
    "log_normal": (lambda x: x.log_normal_(0.1, 0.5), stats.lognorm(s=0.5, scale=math.exp(0.1)).cdf),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distributions(name: str, dtype: torch.dtype) -> None:
    fill, cdf = CONTINUOUS[name]
    values = fill(torch.full((SAMPLES,), float("nan"), dtype=dtype, device="gxu")).cpu().numpy()
    assert stats.kstest(values, cdf).pvalue > 1e-3
    assert len(np.unique(values)) > 0.98 * SAMPLES


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_narrow_types_have_the_same_quantiles(name: str, dtype: torch.dtype) -> None:
    fill, cdf = CONTINUOUS[name]
    values = fill(torch.full((SAMPLES,), float("nan"), dtype=dtype, device="gxu")).double().cpu().numpy()
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert abs(float(cdf(np.quantile(values, level))) - level) < 0.02


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_uniform_stays_below_its_upper_bound(dtype: torch.dtype) -> None:
    unit = torch.rand(SAMPLES, dtype=dtype, device="gxu")
    assert unit.min() >= 0 and unit.max() < 1
    # A bound that many values are rounded to.
    narrow = torch.empty(SAMPLES, dtype=dtype, device="gxu").uniform_(1, 1.01)
    assert narrow.min() >= 1 and narrow.max() < torch.tensor(1.01, dtype=dtype)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float16, 4000), (torch.bfloat16, 1000)])
def test_narrow_uniform_values_are_as_fine_as_their_type(dtype: torch.dtype, least: int) -> None:
    """Not the bits that the type holds below 1, scaled: between -100 and 100 it has more numbers than those."""
    values = torch.empty(SAMPLES, dtype=dtype, device="gxu").uniform_(-100, 100)
    assert len(values.unique()) > least
    assert values.min() >= -100 and values.max() < 100
    # Next to a bound of 0, which nothing is rounded down to.
    below = torch.empty(SAMPLES, dtype=dtype, device="gxu").uniform_(-1, 0)
    assert below.max() < 0
    assert (torch.empty(7, dtype=dtype, device="gxu").uniform_(2, 2) == 2).all()


def test_tails_of_the_normal_distribution() -> None:
    values = torch.randn(4_000_000, device="gxu")
    assert abs(values.mean().item()) < 0.002 and abs(values.std().item() - 1) < 0.002
    for bound in (3.0, 4.0):
        expected = 4_000_000 * 2 * float(stats.norm.sf(bound))
        assert abs((values.abs() > bound).sum().item() - expected) < 5 * math.sqrt(expected)
    assert abs((values[::2] * values[1::2]).mean().item()) < 0.004  # neighbours are independent
    assert abs(values.pow(4).mean().item() - 3) < 0.05


def test_exponential_is_positive() -> None:
    for dtype in (torch.float32, torch.float64):
        assert (torch.empty(2_000_000, dtype=dtype, device="gxu").exponential_() > 0).all()


def assert_counts(values: Tensor, probabilities: np.ndarray) -> None:
    """Chi-square test of integers 0, 1, ... against their probabilities."""
    counts = torch.bincount(values.long().cpu().flatten(), minlength=len(probabilities)).numpy()
    assert len(counts) == len(probabilities)
    possible = probabilities > 0
    assert (counts[~possible] == 0).all()
    expected = probabilities[possible] / probabilities.sum() * counts.sum()
    assert stats.chisquare(counts[possible], expected).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float64])
def test_integers(dtype: torch.dtype) -> None:
    values = torch.randint(3, 13, (SAMPLES,), dtype=dtype, device="gxu")
    assert_counts(values - 3, np.ones(10))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (torch.int64, -(2**63), 2**63 - 1),
        (torch.int64, -5, 2**33),
        (torch.int32, -(2**31), 2**31 - 1),
        (torch.int32, 0, 2**24 + 3),
        (torch.float64, -(2**53), 2**53),
    ],
)
def test_wide_integer_ranges(dtype: torch.dtype, low: int, high: int) -> None:
    values = torch.empty(SAMPLES, dtype=dtype, device="gxu").random_(low, high).cpu().numpy().astype(np.float64)
    assert low <= values.min() and values.max() < high
    assert stats.kstest((values - low) / (high - low), "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [
        (torch.bool, 1),
        (torch.uint8, 255),
        (torch.int8, 127),
        (torch.int32, 2**31 - 1),
        (torch.int64, 2**63 - 1),
        (torch.bfloat16, 2**8),
        (torch.float16, 2**11),
        (torch.float32, 2**24),
        (torch.float64, 2**53),
    ],
)
def test_random_without_bounds(dtype: torch.dtype, largest: int) -> None:
    values = torch.empty(SAMPLES, dtype=dtype, device="gxu").random_().double().cpu()
    assert values.min() >= 0 and values.max() <= largest
    assert abs(values.mean().item() / largest - 0.5) < 0.01


def test_geometric() -> None:
    for dtype in (torch.int64, torch.float32):
        values = torch.empty(SAMPLES, dtype=dtype, device="gxu").geometric_(0.4)
        assert values.min() == 1
        assert_counts(values.clamp(max=10) - 1, np.array([0.4 * 0.6**k for k in range(9)] + [0.6**9]))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64])
def test_bernoulli(dtype: torch.dtype) -> None:
    x = torch.empty(SAMPLES, dtype=dtype, device="gxu")
    assert_counts(x.bernoulli_(0.3), np.array([0.7, 0.3]))
    assert (x.bernoulli_(1.0) == 1).all() and (x.bernoulli_(0.0) == 0).all()
    probabilities = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64, device="gxu").expand(SAMPLES, 3)
    draws = torch.empty(SAMPLES, 3, dtype=dtype, device="gxu").bernoulli_(probabilities).cpu()
    assert (draws[:, 0] == 0).all() and (draws[:, 2] == 1).all()
    assert_counts(draws[:, 1], np.array([0.75, 0.25]))
    with pytest.raises(RuntimeError, match="p_in >= 0 && p_in <= 1"):
        x.bernoulli_(torch.full((SAMPLES,), 1.5, device="gxu"))


def test_multinomial() -> None:
    weights = torch.tensor([0.0, 1.0, 0.0, 2.0, 5.0, 0.0], device="gxu")
    draws = torch.multinomial(weights, SAMPLES, replacement=True)
    assert_counts(draws, weights.cpu().numpy())
    rows = torch.multinomial(torch.stack([weights, weights.flip(0)]), SAMPLES, replacement=True)
    assert_counts(rows[1], weights.flip(0).cpu().numpy())
    without = torch.stack([torch.multinomial(weights, 3) for _ in range(200)])
    assert (without.sort(1).values.cpu() == torch.tensor([1, 3, 4])).all()
    first = torch.multinomial(weights.expand(SAMPLES, 6), 2)[:, 0]
    assert_counts(first, weights.cpu().numpy())
    for bad in ([-1.0, 2.0], [0.0, 0.0], [math.inf, 1.0], [math.nan, 1.0]):
        with pytest.raises(RuntimeError, match=r"probability|distribution"):
            torch.multinomial(torch.tensor(bad, device="gxu"), 4, replacement=True)


def test_permutations() -> None:
    for n in (1, 2, 17, 10_000):
        for dtype in (torch.int64, torch.int32, torch.float64):
            permutation = torch.randperm(n, dtype=dtype, device="gxu")
            assert torch.equal(permutation.sort().values.cpu(), torch.arange(n, dtype=dtype))
    many = torch.stack([torch.randperm(4, device="gxu") for _ in range(3000)])
    assert_counts(many @ torch.tensor([64, 16, 4, 1], device="gxu"), permutation_probabilities())


def permutation_probabilities() -> np.ndarray:
    """1 for the numbers whose base-4 digits are a permutation of 0 to 3."""
    digits = np.array([[value // 4**k % 4 for k in range(4)] for value in range(256)])
    is_permutation = (np.sort(digits, axis=1) == np.arange(4)).all(axis=1)
    return is_permutation[: int(np.flatnonzero(is_permutation).max()) + 1].astype(float)


@pytest.mark.parametrize("shape", [(0,), (1,), (63,), (64,), (65,), (1025,), (33_000,)])
def test_every_element_is_written_and_nothing_else(shape: tuple[int, ...]) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        memory = torch.full((shape[0] + 128,), 7.0, dtype=dtype, device="gxu")
        memory[64 : 64 + shape[0]].uniform_()
        assert (memory[64 : 64 + shape[0]] < 1).all()
        assert (memory[:64] == 7).all() and (memory[64 + shape[0] :] == 7).all()


def test_strided_outputs() -> None:
    memory = torch.full((40, 60), 7.0, device="gxu")
    memory[::2, ::3].uniform_()
    assert (memory[::2, ::3] < 1).all()
    assert (memory < 1).sum() == 20 * 20
    channels_last = torch.empty(2, 3, 5, 7, device="gxu").to(memory_format=torch.channels_last).normal_()
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    assert channels_last.unique().numel() == channels_last.numel()
    out = torch.empty(0, device="gxu")
    assert torch.randn(5, out=out, device="gxu").shape == (5,)


@pytest.mark.usefixtures("numbers_of_gxu")
def test_state_is_the_seed_and_the_offset() -> None:
    generator = torch.Generator("gxu").manual_seed(0x0102030405060708)
    torch.rand(100, device="gxu", generator=generator)
    state = generator.get_state()
    assert state.dtype == torch.uint8 and state.device.type == "cpu"
    assert state.numpy().view(np.uint64).tolist() == [0x0102030405060708, 128]
    assert generator.get_offset() == 128 and generator.initial_seed() == 0x0102030405060708
    following = torch.rand(7, device="gxu", generator=generator)
    other = torch.Generator("gxu")
    other.set_state(state)
    assert torch.equal(torch.rand(7, device="gxu", generator=other), following)
    other.set_state(state[:8])
    assert other.get_offset() == 0 and other.initial_seed() == 0x0102030405060708
    with pytest.raises(RuntimeError, match="16 bytes"):
        other.set_state(torch.zeros(5056, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="multiple of 4"):
        other.set_offset(6)


def test_clones_and_shared_states() -> None:
    generator = torch.Generator("gxu").manual_seed(5)
    clone = generator.clone_state()
    shared = generator.graphsafe_get_state()
    first = torch.rand(3, device="gxu", generator=generator)
    assert clone.get_offset() == 0
    assert shared.get_offset() == generator.get_offset()
    assert torch.equal(torch.rand(3, device="gxu", generator=clone), first)
    other = torch.Generator("gxu")
    other.graphsafe_set_state(shared)
    torch.rand(3, device="gxu", generator=other)
    assert generator.get_offset() == other.get_offset() == 128


def test_generators_of_other_devices() -> None:
    for draw in (torch.randn, torch.randperm):
        with pytest.raises(RuntimeError, match=r"Expected a 'gxu' .*generator"):
            draw(4, device="gxu", generator=torch.Generator())


def test_consecutive_calls_do_not_overlap() -> None:
    values = torch.cat([torch.rand(n, device="gxu", dtype=torch.float64) for n in (1, 100, 31, 32, 33, 5000)])
    assert values.unique().numel() == values.numel()


def test_fork_rng_and_states_of_all_devices() -> None:
    torch.gxu.manual_seed(3)
    with torch.random.fork_rng(devices=[0], device_type="gxu"):
        inside = torch.rand(2, device="gxu")
    assert torch.equal(torch.rand(2, device="gxu"), inside)
    states = torch.gxu.get_rng_state_all()
    first = draw_everything()
    torch.gxu.set_rng_state_all(states)
    for a, b in zip(first, draw_everything(), strict=True):
        assert torch.equal(a, b)


def test_every_device_has_its_generator(run_python: RunPython) -> None:
    code = """
import torch
torch.manual_seed(5)
first, second = (torch.rand(100, device=f"gxu:{index}") for index in range(2))
assert torch.equal(first.cpu(), second.cpu())
torch.gxu.set_device(1)
torch.gxu.manual_seed(6)
assert [generator.initial_seed() for generator in torch.gxu.default_generators] == [5, 6]
assert torch.gxu.default_generators[1].device == torch.device("gxu:1")
offsets = [generator.get_offset() for generator in torch.gxu.default_generators]
assert offsets == [128, 0], offsets
torch.rand(3, device="gxu:0", generator=torch.Generator("gxu:0").manual_seed(1))
with torch.random.fork_rng(device_type="gxu"):
    torch.rand(3, device="gxu:1"), torch.rand(3, device="gxu:0")
assert [generator.get_offset() for generator in torch.gxu.default_generators] == offsets
assert torch.gxu.seed_all() == torch.gxu.default_generators[0].initial_seed()
"""
    result = run_python("-c", code, env={"GXU_DEVICE_COUNT": "2"})
    assert result.returncode == 0, result.stderr


DROPOUTS = [nn.Dropout(0.4), nn.AlphaDropout(0.4), nn.Dropout1d(0.4), nn.FeatureAlphaDropout(0.4), nn.RReLU()]


@pytest.mark.parametrize("layer", DROPOUTS, ids=lambda layer: type(layer).__name__)
def test_dropouts_follow_the_state(layer: nn.Module) -> None:
    x = torch.randn(8, 50, 20, device="gxu")
    state = torch.gxu.get_rng_state()
    first = layer(x)
    assert not torch.equal(layer(x), first)
    torch.gxu.set_rng_state(state)
    assert torch.equal(layer(x), first)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_dropout_matches_its_mask(dtype: torch.dtype) -> None:
    x = torch.randn(300, 211, device="gxu", dtype=dtype).t()
    x[5, 7] = math.inf
    x.requires_grad_()
    out, mask = torch.native_dropout(x, 0.3, True)
    assert mask.dtype == torch.bool and mask.stride() == out.stride() == x.stride()
    assert_counts(mask, np.array([0.3, 0.7]))
    scaled = x.detach().cpu() * torch.tensor(1 / 0.7, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    expected = torch.where(mask.cpu(), scaled.to(dtype), torch.zeros((), dtype=dtype))
    torch.testing.assert_close(out.detach().cpu(), expected)
    out.backward(torch.ones_like(out))
    torch.testing.assert_close(x.grad.cpu(), mask.cpu().to(dtype) / 0.7, rtol=1e-2, atol=1e-2)


def test_dropout_without_effect() -> None:
    x = torch.randn(10, device="gxu")
    assert torch.equal(F.dropout(x, 0.0), x)
    assert torch.equal(F.dropout(x, 0.5, training=False), x)
    assert (F.dropout(x, 1.0) == 0).all()
    assert torch.native_dropout(torch.empty(0, device="gxu"), 0.5, True)[0].shape == (0,)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_dropout_replays_exactly(reentrant: bool) -> None:
    layers = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5), nn.ReLU(), nn.Linear(64, 64), nn.Dropout(0.3)).to("gxu")

    def gradients(run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        torch.gxu.manual_seed(8)
        x = torch.ones(32, 64, device="gxu", requires_grad=True)
        layers.zero_grad()
        out = run(x)
        out.square().sum().backward()
        return [out, x.grad, *(parameter.grad.clone() for parameter in layers.parameters())]

    plain = gradients(layers)
    replayed = gradients(lambda x: checkpoint(layers, x, use_reentrant=reentrant))
    for a, b in zip(plain, replayed, strict=True):
        assert torch.equal(a, b)


def test_the_attention_and_lstm_dropouts_follow_the_state() -> None:
    query = torch.randn(2, 4, 16, 8, device="gxu")
    lstm = nn.LSTM(8, 8, num_layers=2, dropout=0.5).to("gxu")

    def run() -> tuple[Tensor, Tensor]:
        torch.gxu.manual_seed(2)
        return F.scaled_dot_product_attention(query, query, query, dropout_p=0.5), lstm(query[0])[0]

    cpu_state = torch.get_rng_state()
    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), cpu_state)
