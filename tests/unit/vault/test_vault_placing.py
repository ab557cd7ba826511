"""Partitions, order and ranks."""

import numpy as np
import pytest
from Crypto.Cipher import AES

from sandbox.crypto.suites import suite
from sandbox.model.keys import SuiteName
from sandbox.vault import placing
from sandbox.vault.placing import UnitHash, bucket_of, ranking_generator
from sandbox.vault.placing import order_and_rank as place_rows

SEED = b"\x07" * 32


@pytest.fixture
def units() -> np.ndarray:
    return np.random.default_rng(3).integers(-(2**63), 2**63 - 1, size=100_000)


@pytest.fixture
def hashing(suite_name: SuiteName) -> UnitHash:
    return UnitHash(b"k" * 32, suite(suite_name))


def test_the_hash_is_one_block_of_aes_under_a_derived_key(hashing: UnitHash, suite_name: SuiteName) -> None:
    unit = -1_234_567_890_123_456_789
    key = suite(suite_name).expand(b"k" * 32, b"saggar/partition-hash/2", 32)
    block = AES.new(key, AES.MODE_ECB).encrypt(unit.to_bytes(8, "little", signed=True) + bytes(8))
    assert int(hashing.of(np.array([unit]))[0]) == int.from_bytes(block[:8], "little")


def test_another_key_gives_another_hash(units: np.ndarray, hashing: UnitHash, suite_name: SuiteName) -> None:
    other = UnitHash(b"l" * 32, suite(suite_name)).of(units)
    assert np.array_equal(hashing.of(units), UnitHash(b"k" * 32, suite(suite_name)).of(units))
    assert np.mean(hashing.of(units) == other) < 0.001


@pytest.mark.parametrize("count", [1, 3, 4, 16, 4096])
def test_buckets_are_even(units: np.ndarray, hashing: UnitHash, count: int) -> None:
    loads = np.bincount(bucket_of(hashing.of(units), count), minlength=count)
    mean = len(units) / count
    assert len(loads) == count
    assert abs(loads - mean).max() < 6 * mean**0.5 + 1


def test_fine_buckets_gather_into_partitions(units: np.ndarray, hashing: UnitHash) -> None:
    hashes = hashing.of(units)
    for partitions in (4, 8, 64, 256):
        assert np.array_equal(bucket_of(hashes, 256) // (256 // partitions), bucket_of(hashes, partitions))


def order_and_rank(units: np.ndarray, hashes: np.ndarray, seed: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return order and ranks of rows in memory; the order that was asked for last is the one that holds."""
    asked = []

    def units_in(order: np.ndarray) -> np.ndarray:
        asked.append(order.copy())
        return units[order]

    order, ranks = place_rows(hashes, ranking_generator(seed), units_in)
    assert np.array_equal(asked[-1], order)
    return order, ranks


def _check_placed(units: np.ndarray, order: np.ndarray, rank: np.ndarray) -> None:
    assert np.array_equal(np.sort(order), np.arange(len(units)))
    stored = units[order]
    begins = np.flatnonzero(np.r_[True, stored[1:] != stored[:-1]])
    assert len(begins) == len(np.unique(units)), "a unit lies in two places"
    counts = np.diff(np.r_[begins, len(stored)])
    assert np.array_equal(rank, np.concatenate([np.arange(1, count + 1) for count in counts]))
    assert rank.dtype == np.int32


def test_units_lie_together_and_ranks_count_from_one(units: np.ndarray, hashing: UnitHash) -> None:
    rows = np.random.default_rng(4).choice(units[:3000], size=10_000)
    _check_placed(rows, *order_and_rank(rows, hashing.of(rows), SEED))


def test_units_that_share_a_hash_are_parted(units: np.ndarray) -> None:
    rows = np.random.default_rng(4).choice(units[:50], size=1000)
    _check_placed(rows, *order_and_rank(rows, np.zeros(1000, np.uint64), SEED))
    _check_placed(rows, *order_and_rank(rows, (rows % 3).astype(np.uint64), SEED))


def test_units_that_share_a_hash_with_few_others_are_parted_and_the_rest_stay(units: np.ndarray) -> None:
    """Two of fifty units share a hash: parting them moves no row of the others."""
    rows = np.random.default_rng(4).choice(units[:50], size=1000)
    numbers = np.unique(rows, return_inverse=True)[1].astype(np.uint64)
    shared = np.where(numbers == 49, np.uint64(20), numbers)
    order, rank = order_and_rank(rows, shared, SEED)
    _check_placed(rows, order, rank)
    apart, _ = order_and_rank(rows, numbers, SEED)
    others = ~np.isin(numbers, [20, 49])
    assert np.array_equal(order[others[order]], apart[others[apart]])


@pytest.mark.parametrize("rows", [1, 2, 1000, 100_000])
def test_sort_keys_have_one_order_as_numbers_of_either_kind(rows: int) -> None:
    hashes = np.random.default_rng(9).integers(0, 2**64, rows, dtype=np.uint64)
    hashes[0], hashes[-1] = 0, 2**64 - 1
    for each in (hashes, hashes.view(np.uint32)[::2]):
        keys = placing._sort_keys(each, max(1, (rows - 1).bit_length()), ranking_generator(SEED))
        assert np.array_equal((keys >> np.uint64(32)) & np.uint64(2**29 - 1), hashes & np.uint64(2**29 - 1))
        assert np.array_equal(np.sort(keys & np.uint64(2 ** max(1, (rows - 1).bit_length()) - 1)), np.arange(rows))
        as_floats = keys.view(np.float64)
        assert np.isfinite(as_floats).all()
        assert (as_floats >= np.finfo(np.float64).tiny).all(), "a key is zero, negative or subnormal"
        assert np.array_equal(np.sort(as_floats).view(np.uint64), np.sort(keys))


def test_no_rows_have_no_order() -> None:
    order, rank = order_and_rank(np.empty(0, np.int64), np.empty(0, np.uint64), SEED)
    assert len(order) == len(rank) == 0


def test_the_order_of_units_does_not_depend_on_arrival(units: np.ndarray, hashing: UnitHash) -> None:
    rows = np.random.default_rng(4).choice(units[:300], size=1000)
    first, _ = order_and_rank(rows, hashing.of(rows), SEED)
    second, _ = order_and_rank(np.sort(rows), hashing.of(np.sort(rows)), SEED)
    assert np.array_equal(rows[first], np.sort(rows)[second])
    assert not np.array_equal(rows[first], np.sort(rows)), "the order is that of the tokens"


def test_a_unit_of_very_many_rows_is_ranked_like_the_others(hashing: UnitHash) -> None:
    rows = np.repeat(np.array([5, -7, 9]), [200_000, 3, 1])
    _check_placed(rows, *order_and_rank(rows, hashing.of(rows), SEED))


def test_rows_whose_random_bits_are_equal_are_shuffled_all_the_same() -> None:
    """One unit of 2**17 rows has 15 random bits a row, so four rows share each value: none keeps the arrival's order.

    Of adjacent pairs in the stored order, half ascend in arrival; the bound is six standard deviations (sqrt(n / 12)).
    """
    rows = np.zeros(1 << 17, np.int64)
    order, _ = order_and_rank(rows, np.zeros(len(rows), np.uint64), SEED)
    ascending = int(np.count_nonzero(np.diff(order) > 0))
    assert abs(ascending - len(rows) / 2) < 6 * (len(rows) / 12) ** 0.5 + 1


@pytest.mark.parametrize("collide", [False, True])
def test_every_order_within_a_unit_is_equally_likely(hashing: UnitHash, *, collide: bool) -> None:
    """Chi-square with 5 degrees of freedom over the 6 orders of 3 rows; the bound is its 1 - 1e-6 quantile."""
    trials = 6000
    units = np.repeat(np.arange(trials), 3)
    hashes = (units // 2).astype(np.uint64) if collide else hashing.of(units)
    order, _ = order_and_rank(units, hashes, SEED)
    arrival = (order % 3).reshape(trials, 3)
    counts = np.bincount(arrival @ np.array([9, 3, 1]), minlength=27)
    seen = counts[counts > 0]
    assert len(seen) == 6
    assert float(np.sum((seen - 1000.0) ** 2 / 1000.0)) < 35.9


def test_another_seed_gives_other_ranks(hashing: UnitHash) -> None:
    units = np.repeat(np.arange(200), 5)
    first, _ = order_and_rank(units, hashing.of(units), SEED)
    second, _ = order_and_rank(units, hashing.of(units), b"\x08" * 32)
    assert np.array_equal(units[first], units[second])
    assert not np.array_equal(first, second)
