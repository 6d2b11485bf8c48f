#include "bridge.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstring>
#include <new>
#include <stdexcept>

namespace tch_ext {

char* owned(const char* message) noexcept {
  const size_t bytes = std::strlen(message) + 1;
  return static_cast<char*>(std::memcpy(new char[bytes], message, bytes));
}

c10::Device checked(Device device) {
  const auto type = static_cast<c10::DeviceType>(device.type);
  TORCH_CHECK(
      c10::impl::hasDeviceGuardImpl(type),
      "this libtorch was built without ", c10::DeviceTypeName(type));
  return c10::Device(type, device.index);
}

}  // namespace tch_ext

extern "C" void tch_ext_free_message(char* message) {
  delete[] message;
}

// For the test of the bridge; a program that does not call it does not contain it.
extern "C" tch_ext::Outcome tch_ext_throw(int kind) {
  return tch_ext::guarded([&] {
    switch (kind) {
      case 0: TORCH_CHECK(false, "a c10::Error");
      case 1: throw std::runtime_error("a std::exception");
      default: throw kind;
    }
  });
}
