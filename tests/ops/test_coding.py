import heapq

import pytest
import torch

from vdc.ops.coding import ERRORS, LIMITS, MOST, allot, levels, middles, pack, quantiser, unpack


def greedy(octaves, total):
    """One bit after the other to whom it helps most, the first of equals."""
    bits = [0] * len(octaves)

    def worth(i):
        gain = ERRORS[bits[i]] - ERRORS[bits[i] + 1] if bits[i] < MOST else 0.0
        return (-gain * 4.0 ** octaves[i], i)

    heap = [worth(i) for i in range(len(octaves))]
    heapq.heapify(heap)
    for _ in range(total):
        _, i = heapq.heappop(heap)
        bits[i] += 1
        heapq.heappush(heap, worth(i))
    return bits


@pytest.mark.parametrize("total", [0, 1, 40, 111, 300, 320])
def test_bits_go_where_they_remove_most_error(total):
    octaves = torch.randint(-16, 32, (40,), generator=torch.Generator().manual_seed(1)).double() / 8
    found = allot(octaves, total)
    assert found.sum() == total
    assert found.tolist() == greedy(octaves.tolist(), total)


def test_every_further_bit_removes_less():
    removed = -torch.tensor(ERRORS).diff()
    assert (removed.diff() < 0).all()
    assert (torch.tensor(LIMITS).diff() > 0).all()


def test_too_many_bits_are_refused():
    with pytest.raises(ValueError, match="5 numbers of at most 8 bits cannot take 41 bits"):
        allot(torch.zeros(5).double(), 41)


def test_levels_are_the_nearest_of_all():
    rng = torch.Generator().manual_seed(0)
    for bits in range(1, MOST + 1):
        limit, step = (float(one) for one in quantiser(torch.tensor([bits]))[:2])
        every = [limit * (2 * (i + 0.5) / 2**bits - 1) for i in range(2**bits)]
        numbers = torch.randn(50, 1, generator=rng) * 3
        found = levels(numbers, *quantiser(torch.tensor([bits])))
        by_hand = [
            min(range(2**bits), key=lambda i, x=x: abs(x - every[i])) for x in numbers.flatten().tolist()
        ]
        assert found.flatten().tolist() == by_hand
        middle = middles(found, *quantiser(torch.tensor([bits])))
        assert middle.flatten().tolist() == pytest.approx([every[i] for i in by_hand], abs=1e-5)
        assert step == pytest.approx(every[1] - every[0])


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_errors_lie_between_the_laws_of_gauss_and_laplace(bits):
    torch.manual_seed(0)
    gauss = torch.randn(200_000, 1)
    laplace = torch.distributions.Laplace(0.0, 0.5**0.5).sample((200_000, 1))
    limits, steps = quantiser(torch.tensor([bits]))
    low, high = (
        float((middles(levels(x, limits, steps), limits, steps) - x).square().mean())
        for x in (gauss, laplace)
    )
    assert 0.95 * low <= ERRORS[bits] <= 1.05 * high


def bitwise(values, widths):
    """Bit by bit, lowest first."""
    bits = [value >> place & 1 for value, width in zip(values, widths, strict=True) for place in range(width)]
    bits += [0] * (-len(bits) % 8)
    return [sum(bits[i + j] << j for j in range(8)) for i in range(0, len(bits), 8)]


def test_packed_bytes_are_those_of_a_loop_and_come_back():
    rng = torch.Generator().manual_seed(2)
    widths = torch.randint(0, 9, (37,), generator=rng)
    values = torch.stack([torch.randint(2 ** int(w), (5,), generator=rng) for w in widths], 1)
    packed = pack(values, widths)
    assert packed.dtype == torch.uint8
    assert packed.shape == (5, -(-int(widths.sum()) // 8))
    assert packed.tolist() == [bitwise(row, widths.tolist()) for row in values.tolist()]
    assert torch.equal(unpack(packed, widths), values)
