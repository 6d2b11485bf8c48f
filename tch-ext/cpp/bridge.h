// What every function that Rust calls has in common.
//
// An exception must not cross into Rust: it would abort the process. So each function does its work
// inside `guarded` and returns an Outcome, and src/error.rs turns that into a Result.
#pragma once

#include <c10/core/Device.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <exception>

namespace tch_ext {

// Null if all went well, else a message that Rust gives back to tch_ext_free_message.
using Outcome = char*;

// A copy of `message` that the caller owns.
char* owned(const char* message) noexcept;

template <typename Work>
Outcome guarded(Work work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return owned(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return owned(error.what());
  } catch (...) {
    return owned("libtorch threw an exception without a message");
  }
}

// A tch::Device; src/device.rs has the same two fields.
struct Device {
  int8_t type;
  int8_t index;
};

// The device as libtorch names it. Throws where this libtorch was built without that kind.
c10::Device checked(Device device);

}  // namespace tch_ext
