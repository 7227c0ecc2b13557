"""Tensors in a file: what the checksum sees."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapelab.tensor_files import checksum


@given(st.integers(0, 31), st.sampled_from(["float32", "bfloat16", "int64"]))
def test_checksum_sees_every_bit_name_and_shape(position, dtype):
    tensor = torch.zeros(4, 8, dtype=getattr(torch, dtype))
    other = tensor.clone()
    other.view(-1)[position] = 1
    sums = {checksum({"a": tensor}), checksum({"a": other}), checksum({"b": tensor}), checksum({"a": tensor.T})}
    assert len(sums) == 4
    assert checksum({"a": tensor.T}) == checksum({"a": tensor.T.contiguous()})


def test_an_array_that_is_read_backwards_has_the_checksum_of_its_copy():
    backwards = np.arange(12).reshape(3, 4)[::-1, ::-1]
    assert checksum({"a": backwards}) == checksum({"a": backwards.copy()}) != checksum({"a": backwards[::-1]})
