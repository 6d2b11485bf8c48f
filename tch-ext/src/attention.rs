use crate::{Error, error::Outcome};

unsafe extern "C" {
    safe fn tch_ext_set_flash_attention(enabled: bool) -> Outcome;
}

/// Whether `scaled_dot_product_attention` may use libtorch's flash attention from now on, on all devices
/// and threads. libtorch begins with `true`. Call it while no other thread computes.
///
/// With `false` on a CPU it computes as one would by hand: a batched product, the mask, softmax, another
/// product, all in the dtype of the tensors. That takes memory for every score, T² of them a head, and
/// rounds each score to that dtype. In bfloat16 it is the faster way up to about a thousand tokens: flash
/// attention multiplies tile by tile, and for tiles that small a CPU's instructions for bfloat16 do not pay.
///
/// It does what PyTorch's `torch.backends.cuda.enable_flash_sdp(enabled)` and
/// `allow_fp16_bf16_reduction_math_sdp(not enabled)` do; in spite of their names they are not for CUDA alone.
///
/// # Errors
/// None that is known.
pub fn set_flash_attention(enabled: bool) -> Result<(), Error> {
    tch_ext_set_flash_attention(enabled).into_result()
}
