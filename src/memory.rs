use std::fs;

/// How many bytes this program can take before the system is out of memory, in swap too, or a container's limit
/// is reached; less a tenth, for without any the system reads its programs from the disk again and again, and stands
/// still long before anything is out of memory. `None` where that is unknown: it is read from Linux.
pub fn free() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let system = free_in(&meminfo)?;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|path| fs::read_to_string(path).ok());
    let container = limits.filter_map(|limit| limit.trim().parse().ok()).min();
    let free = container.map_or(system, |limit: u64| limit.min(system));
    Some(free / 10 * 9)
}

fn free_in(meminfo: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some((kib("MemAvailable")? + kib("SwapFree")?) * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_and_swap_count() {
        let meminfo = "MemTotal:       24675820 kB\nMemFree:         8000 kB\n\
                       MemAvailable:   22000000 kB\nSwapTotal: 9 kB\nSwapFree:      5 kB\n";
        assert_eq!(free_in(meminfo), Some(22_000_005 * 1024));
        assert_eq!(free_in("MemTotal: 24675820 kB\n"), None);
    }
}
