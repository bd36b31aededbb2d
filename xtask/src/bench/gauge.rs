//! What a process has spent and holds, read from `/proc`: CPU time in nanoseconds, memory, threads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// CPU time of each thread of a process and of its children, in seconds, by the thread's id.
///
/// `schedstat` counts nanoseconds where `stat` counts steps of 10 ms. A thread that has ended takes its time along: no
/// proxy here ends threads while it is measured.
pub(super) fn threads(pid: u32) -> Result<BTreeMap<u32, f64>> {
    let mut all = BTreeMap::new();
    for pid in family(pid) {
        for entry in fs::read_dir(format!("/proc/{pid}/task")).context("a process has ended")? {
            let path = entry?.path();
            let thread = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            let (Some(thread), Some(seconds)) = (thread, seconds(&path)) else { continue };
            all.insert(thread, seconds);
        }
    }
    if all.is_empty() {
        bail!("this kernel counts no CPU time in /proc/PID/task/TID/schedstat");
    }
    Ok(all)
}

/// CPU time of a process with its children, all threads.
pub(super) fn cpu(pid: u32) -> Result<f64> {
    Ok(threads(pid)?.values().sum())
}

/// Memory of a process with its children that is its own and not a file's, in bytes.
pub(super) fn memory(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for pid in family(pid) {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        sum += kib.context("no RssAnon in /proc/PID/status")? * 1024.0;
    }
    Ok(sum)
}

/// A process and its children, such as nginx's workers.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().filter_map(|word| word.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// Of a thread; none if it has just ended.
fn seconds(task: &Path) -> Option<f64> {
    let text = fs::read_to_string(task.join("schedstat")).ok()?;
    let nanoseconds: f64 = text.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}
