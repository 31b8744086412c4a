"""A batch for teacher forcing."""

import numpy as np
import torch

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, make_batch


def test_the_input_of_the_decoder_is_its_output_one_position_later() -> None:
    source = np.array([[5, 7, EOS_ID], [5, EOS_ID, PAD_ID]])
    target = np.array([[11, EOS_ID, PAD_ID, PAD_ID], [13, 17, 19, EOS_ID]])
    batch = make_batch(source, target, step_target_tokens=23, step=29, micro_batch=31)
    assert batch.source_BS.tolist() == source.tolist()
    assert batch.target_output_BT.tolist() == target.tolist()
    assert batch.target_input_BT.tolist() == [[BOS_ID, 11, EOS_ID, PAD_ID], [BOS_ID, 13, 17, 19]]
    assert (batch.num_source_tokens, batch.num_target_tokens) == (5, 6)
    assert (batch.step_target_tokens, batch.step, batch.micro_batch) == (23, 29, 31)
    assert batch.source_BS.dtype == batch.target_input_BT.dtype == batch.target_output_BT.dtype == torch.int64
