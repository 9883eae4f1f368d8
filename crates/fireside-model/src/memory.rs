//! How much memory the host still has, where the system says.

/// Bytes that can be had without swapping, or `None` where the system does not say: outside Linux,
/// and in browsers.
pub(crate) fn available() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let host = read("/proc/meminfo").and_then(|text| of_host(&text));
        let group = |name: &str| read(&format!("/sys/fs/cgroup/{name}"));
        let group = group("memory.max")
            .zip(group("memory.current"))
            .zip(group("memory.stat"))
            .and_then(|((max, current), stat)| of_group(&max, &current, &stat));
        host.into_iter().chain(group).min()
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// `MemAvailable` of `/proc/meminfo`.
#[cfg(any(test, target_os = "linux"))]
fn of_host(meminfo: &str) -> Option<u64> {
    value(meminfo, "MemAvailable:")?.checked_mul(1024)
}

/// What a control group leaves: its limit without what it uses, files that can be dropped aside.
#[cfg(any(test, target_os = "linux"))]
fn of_group(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let files = value(stat, "inactive_file").unwrap_or_default();
    Some(max.saturating_sub(current.saturating_sub(files)))
}

/// The number after a name, in lines of `name number`.
#[cfg(any(test, target_os = "linux"))]
fn value(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name))
            .then(|| words.next()?.parse().ok())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_memory_is_read_in_bytes() {
        let text = "MemTotal:       24684084 kB\nMemAvailable:   23820108 kB\n";
        assert_eq!(of_host(text), Some(23_820_108 * 1024));
        assert_eq!(of_host("MemTotal: 5 kB\n"), None);
        assert_eq!(of_host("MemAvailable: much kB\n"), None);
    }

    #[test]
    fn a_group_leaves_its_limit_without_what_cannot_be_dropped() {
        let stat = "anon 700\ninactive_file 300\n";
        assert_eq!(of_group("5000\n", "1000\n", stat), Some(4300));
        assert_eq!(of_group("500\n", "1000\n", stat), Some(0));
        assert_eq!(of_group("max\n", "1000\n", stat), None);
    }
}
