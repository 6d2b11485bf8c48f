/// A [`tch::Device`] as C++ takes it: libtorch's number of the device type (`c10::DeviceType`), and
/// which one of that type.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Device {
    kind: i8,
    index: i8,
}

impl From<tch::Device> for Device {
    fn from(device: tch::Device) -> Device {
        let (kind, index) = match device {
            tch::Device::Cpu => (0, 0),
            // No machine has 127 of them, so libtorch will say that there is no such device.
            tch::Device::Cuda(index) => (1, i8::try_from(index).unwrap_or(i8::MAX)),
            tch::Device::Vulkan => (10, 0),
            tch::Device::Mps => (13, 0),
        };
        Device { kind, index }
    }
}
