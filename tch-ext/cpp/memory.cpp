#include "bridge.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <atomic>
#include <cstdint>
#include <new>

#ifdef __GLIBC__
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

#ifdef __GLIBC__
uintptr_t whole_pages_below_heap_end() {
  constexpr uintptr_t kPage = 2 << 20;
  return reinterpret_cast<uintptr_t>(sbrk(0)) / kPage * kPage;  // of the heap's end, no call to Linux
}
#endif

// How far the heap is to be mapped in pages of 2 MiB; 0 until somebody has asked for it.
std::atomic<uintptr_t> huge_until{0};

// Asks Linux to map so what the heap has grown by since the last time. It is advice: where it cannot be
// followed, memory is as good as before.
void advise_huge_pages() {
#ifdef __GLIBC__
  uintptr_t begin = huge_until;
  if (begin == 0) return;
  const uintptr_t end = whole_pages_below_heap_end();
  if (begin < end && huge_until.compare_exchange_strong(begin, end)) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  }
#endif
}

// libtorch's CPU allocator with a counter in front.
//
// A block's size stands in a header before it, because a deleter is handed nothing but the address.
// The deleter travels with its block, so one that another allocator made never comes here.
class Counter final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &free, c10::kCPU};
    const size_t limit = limit_, taken = now_;
    TORCH_CHECK_WITH(OutOfMemoryError, taken <= limit && bytes <= limit - taken,
                     "can't allocate memory: tensors take ", taken, " bytes, and ", bytes,
                     " more are over the limit of ", limit);
    auto* block = static_cast<char*>(libtorchs_->raw_allocate(kHeader + bytes));
    advise_huge_pages();
    new (block) size_t(bytes);
    add(bytes);
    void* data = block + kHeader;
    return {data, data, &free, c10::kCPU};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &free; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  size_t now() const { return now_; }
  size_t peak() const { return peak_; }
  void reset_peak() { peak_ = now(); }
  void limit(size_t bytes) { limit_ = bytes; }

 private:
  // libtorch aligns its tensors to 64 bytes; behind a header of that size they stay aligned.
  static constexpr size_t kHeader = 64;

  static void free(void* data);

  void add(size_t bytes) {
    const size_t now = now_.fetch_add(bytes) + bytes;
    size_t peak = peak_;
    while (peak < now && !peak_.compare_exchange_weak(peak, now)) {
    }
  }

  c10::Allocator* const libtorchs_ = c10::GetCPUAllocator();
  std::atomic<size_t> now_{0};
  std::atomic<size_t> peak_{0};
  std::atomic<size_t> limit_{SIZE_MAX};
};

// Never destroyed: tensors may outlive the other statics. Set before main, since libtorch's setter is
// not made for threads; so whatever a program allocates is counted.
Counter& counter = *[] {
  auto* counter = new Counter;
  c10::SetCPUAllocator(counter);
  return counter;
}();

void Counter::free(void* data) {
  if (data == nullptr) return;
  auto* block = static_cast<char*>(data) - kHeader;
  counter.now_ -= *reinterpret_cast<size_t*>(block);
  counter.libtorchs_->raw_deallocate(block);
}

// The allocator of a GPU, which counts by itself; null until something was allocated there.
c10::DeviceAllocator* on_gpu(c10::Device device) {
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
  TORCH_CHECK(allocator != nullptr, "this libtorch does not count memory on ", device.type());
  return allocator->initialized() ? allocator : nullptr;
}

}  // namespace

extern "C" tch_ext::Outcome tch_ext_memory(tch_ext::Device where, uint64_t* now, uint64_t* peak) {
  return tch_ext::guarded([&] {
    const c10::Device device = tch_ext::checked(where);
    if (device.is_cpu()) {
      *now = counter.now();
      *peak = counter.peak();
    } else if (auto* gpu = on_gpu(device)) {
      const auto bytes = gpu->getDeviceStats(device.index()).allocated_bytes[0];  // 0: all pools
      *now = bytes.current;
      *peak = bytes.peak;
    } else {
      *now = *peak = 0;
    }
  });
}

extern "C" tch_ext::Outcome tch_ext_reset_peak(tch_ext::Device where) {
  return tch_ext::guarded([&] {
    const c10::Device device = tch_ext::checked(where);
    if (device.is_cpu()) {
      counter.reset_peak();
    } else if (auto* gpu = on_gpu(device)) {
      gpu->resetPeakStats(device.index());
    }
  });
}

extern "C" void tch_ext_limit(uint64_t bytes) { counter.limit(bytes); }

extern "C" tch_ext::Outcome tch_ext_keep_freed() {
  return tch_ext::guarded([] {
#ifdef __GLIBC__
    // No block of its own mapping, which would be unmapped when freed; the heap's end never trimmed.
    // (A higher M_MMAP_THRESHOLD does not do: older glibc refuses more than 32 MiB.)
    const bool set = mallopt(M_MMAP_MAX, 0) && mallopt(M_TRIM_THRESHOLD, INT32_MAX);
    TORCH_CHECK(set, "malloc refuses to keep freed memory");
#endif
  });
}

extern "C" tch_ext::Outcome tch_ext_use_huge_pages() {
  return tch_ext::guarded([] {
#ifdef __GLIBC__
    // The heap grows by this much more than what was asked for, so that what libraries allocate
    // between two tensors mostly lies in what was advised with the first.
    TORCH_CHECK(mallopt(M_TOP_PAD, 64 << 20), "malloc refuses to grow by larger pieces");
    huge_until = whole_pages_below_heap_end();
#endif
  });
}
