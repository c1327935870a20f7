"""A test class that PyTorch instantiates for gxu; test_conformance_eager.py runs this file."""

from __future__ import annotations

import itertools
import unittest

import torch
from torch.testing._internal.common_device_type import OpDTypes, instantiate_device_type_tests, ops
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_utils import TestCase, gradcheck, gradgradcheck

CHECKED = ("addmm", "cumsum", "gather", "linalg.solve", "nn.functional.layer_norm", "nn.functional.conv2d", "sigmoid")
SELECTED = [op for op in op_db if op.name in CHECKED]


class TestGeneric(TestCase):
    @ops(SELECTED, allowed_dtypes=(torch.float64,))
    def test_gradients(self, device, dtype, op):
        for sample in itertools.islice(op.sample_inputs(device, dtype, requires_grad=True), 2):
            assert sample.input.device.type == "gxu"

            def function(input_, sample=sample):
                return sample.output_process_fn_grad(op(input_, *sample.args, **sample.kwargs))

            assert gradcheck(function, [sample.input])
            assert gradgradcheck(function, [sample.input])

    @ops(SELECTED, dtypes=OpDTypes.any_one)
    def test_results_stay_on_the_device(self, device, dtype, op):
        for sample in op.sample_inputs(device, dtype):
            result = op(sample.input, *sample.args, **sample.kwargs)
            assert result.device == torch.device(device)


instantiate_device_type_tests(TestGeneric, globals(), only_for=("gxu",))

if __name__ == "__main__":
    unittest.main()
