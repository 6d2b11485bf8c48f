#include "bridge.h"

#include <ATen/Context.h>

extern "C" tch_ext::Outcome tch_ext_set_flash_attention(bool enabled) {
  return tch_ext::guarded([&] {
    at::Context& context = at::globalContext();
    context.setSDPUseFlash(enabled);
    // Without this, the other way would first cast 16-bit tensors to float32, and gain nothing.
    context.setAllowFP16BF16ReductionMathSDP(!enabled);
  });
}
