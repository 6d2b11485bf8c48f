#include "bridge.h"

#include <ATen/Context.h>
#include <ATen/cpu/Utils.h>

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace {

bool cpu_has_bf16() {
  const auto capabilities = at::cpu::get_cpu_capabilities();
  for (const char* name : {"avx512_bf16", "amx_bf16", "bf16"}) {  // the last one is ARM's
    const auto found = capabilities.find(name);
    if (found != capabilities.end() && found->second.toBool()) return true;
  }
  return false;
}

// libtorch tells a GPU's compute capability only to those who have CUDA's headers. The function
// behind it is in the CUDA runtime, which a libtorch with CUDA has loaded: it is looked up by name.
using GetAttribute = int (*)(int* value, int attribute, int device);
constexpr int kComputeCapabilityMajor = 75;  // cudaDevAttrComputeCapabilityMajor
constexpr int kAmpere = 8;                   // the first to compute in bfloat16

bool gpu_has_bf16(c10::Device device) {
#ifdef _WIN32
  return false;
#else
  const auto get = reinterpret_cast<GetAttribute>(dlsym(RTLD_DEFAULT, "cudaDeviceGetAttribute"));
  if (get == nullptr) return false;
  int major = 0;
  TORCH_CHECK(get(&major, kComputeCapabilityMajor, device.index()) == 0, "there is no ", device);
  return major >= kAmpere;
#endif
}

}  // namespace

extern "C" tch_ext::Outcome tch_ext_float32_matmul_precision(int8_t* precision) {
  return tch_ext::guarded([&] {
    *precision = static_cast<int8_t>(at::globalContext().float32MatmulPrecision());
  });
}

extern "C" tch_ext::Outcome tch_ext_set_float32_matmul_precision(int8_t precision) {
  return tch_ext::guarded([&] {
    constexpr const char* kNames[] = {"highest", "high", "medium"};
    at::globalContext().setFloat32MatmulPrecision(kNames[precision]);
  });
}

extern "C" tch_ext::Outcome tch_ext_bf16_is_fast(tch_ext::Device where, bool* fast) {
  return tch_ext::guarded([&] {
    const c10::Device device = tch_ext::checked(where);
    *fast = device.is_cpu() ? cpu_has_bf16() : device.is_cuda() && gpu_has_bf16(device);
  });
}
