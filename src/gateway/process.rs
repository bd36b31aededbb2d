//! What the process asks of the system for itself: no core dumps, no huge pages, and file handles for its connections.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::disable_transparent_huge_pages;

/// Files that are no connections: the record, the store, the listeners, the drivers' own.
const OTHER_FILES: u64 = 256;

/// Keeps its memory from whoever dumps or debugs it: databases' passwords, keys, rows on their way. What the system refuses is
/// said in the log.
pub(super) fn no_dumps() {
    // Should there be a core all the same, none of its memory is in it. (First: the file is root's after the next.)
    if let Err(error) = std::fs::write("/proc/self/coredump_filter", "0") {
        tracing::warn!(%error, "memory can't be left out of core dumps");
    }
    // No other user's debugger, either.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps can't be turned off");
    }
    // The one is undone where the process changes who it is, the other where somebody raises it: both, then.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "the limit of core dumps can't be lowered");
    }
}

/// Keeps its memory in small pages. What it has is little and lies apart, a heap for each thread; the kernel would make of each
/// piece 2 MiB, in its own time: of 25 MiB 60, by steps that nothing explains.
pub(super) fn no_huge_pages() {
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "huge pages can't be turned off; memory may grow by steps");
    }
}

/// Takes all the file handles that it may have; too few are said in the log.
pub(super) fn raise_files(max_connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
    let wanted = files_for(max_connections);
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|files| *files < wanted) {
        tracing::warn!(
            files,
            wanted,
            "fewer open files are allowed than server.max_connections takes; raise LimitNOFILE, or lower it"
        );
    }
}

/// One for the client, one for the database.
fn files_for(max_connections: usize) -> u64 {
    u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(OTHER_FILES)
}

#[cfg(test)]
mod tests {
    use rustix::process::dumpable_behavior;
    use rustix::thread::transparent_huge_pages_are_disabled;

    use super::*;

    #[test]
    fn no_core_and_all_the_files_there_are() {
        no_dumps();
        raise_files(9_000);
        let filter = std::fs::read_to_string("/proc/self/coredump_filter").unwrap();
        assert_eq!(filter.trim().trim_start_matches('0'), "");
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(files_for(9_000), 18_256);
        no_huge_pages();
        assert!(transparent_huge_pages_are_disabled().unwrap());
        disable_transparent_huge_pages(false).unwrap();
    }
}
