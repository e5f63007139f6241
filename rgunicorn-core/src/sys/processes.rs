//! What `/proc` and the control groups say of processes: memory, who listens where, who was killed for lack of memory.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fork::Pid;

/// The resident memory of a process, in bytes; none if there is no such process.
pub fn resident(pid: Pid) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

/// The number of this process.
pub fn own_pid() -> Pid {
    nix::unistd::getpid()
}

/// The program that a process runs; none if there is no such process, or it can't be seen.
pub fn program(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The arguments of a process, or the title that it has given itself; none if there is no such process, or it can't be seen.
pub fn command_line(pid: i32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cmdline")).ok()
}

/// How long a process has been running; none if there is no such process, or it can't be seen.
pub fn age(pid: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have anything in it, the state is the third field; the start is the 22nd.
    let started: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let started = Duration::from_millis(started.checked_mul(1000)? / u64::try_from(a_second).ok()?);
    let now = Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?);
    Some(now.saturating_sub(started))
}

/// Who listens at `address`, or at its port on all addresses, as `process 123 (nginx)`; none if that can't be seen, which
/// it can for processes of the same user, and for all by root.
pub fn listener_at(address: SocketAddr) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening(&table, address.port()))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    });
    let holds = |(_, path): &(u32, PathBuf)| {
        let descriptors = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        descriptors
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
    };
    // Of a server with workers the oldest process, as far as numbers tell.
    let (pid, path) = processes.filter(holds).min_by_key(|(pid, _)| *pid)?;
    let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", name.trim()))
}

/// The inodes of the sockets that listen at a port, in a table like `/proc/net/tcp`.
fn listening(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let at = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (at == port && state == LISTEN).then(|| fields.nth(5)?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

/// How many processes of this process's control group the kernel has killed for lack of memory.
#[derive(Debug)]
pub struct OutOfMemory {
    file: Option<PathBuf>,
    seen: u64,
}

impl OutOfMemory {
    /// Counts from now on.
    pub fn watch() -> OutOfMemory {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let file =
            candidates(&groups, Path::new("/sys/fs/cgroup")).into_iter().find(|file| count(file).is_some());
        let seen = file.as_deref().and_then(count).unwrap_or(0);
        OutOfMemory { file, seen }
    }

    /// Whether there was one since this was last asked; none if the kernel doesn't tell.
    pub fn has_killed(&mut self) -> Option<bool> {
        let count = count(self.file.as_deref()?)?;
        let more = count > self.seen;
        self.seen = count;
        Some(more)
    }
}

/// Where the count may stand, for a process of these control groups (`/proc/self/cgroup`). In a container the path is
/// often that of the host, and the group's files are at the root.
fn candidates(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.extend([root.join(path).join("memory.events"), root.join("memory.events")]);
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let root = root.join("memory");
            files.extend([root.join(path).join("memory.oom_control"), root.join("memory.oom_control")]);
        }
    }
    files
}

fn count(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_listens() {
        let me = nix::unistd::getpid();
        assert!(resident(me).unwrap() > 100_000);
        assert_eq!(resident(Pid::from_raw(0x7fff_0000)), None);
        assert!(age(me.as_raw()).unwrap() < age(1).unwrap());
        assert_eq!(program(me.as_raw()), std::env::current_exe().ok());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let holder = listener_at(address).unwrap();
        assert!(holder.starts_with(&format!("process {me} (")), "{holder}");
        drop(listener);
        assert_eq!(listener_at(address), None);
    }

    #[test]
    fn both_kinds_of_control_groups_are_known() {
        let root = Path::new("/r");
        assert_eq!(
            candidates("0::/system.slice/web.service\n", root),
            [root.join("system.slice/web.service/memory.events"), root.join("memory.events")]
        );
        assert_eq!(
            candidates("4:cpu,memory:/docker/1\n3:cpuset:/\n", root),
            [root.join("memory/docker/1/memory.oom_control"), root.join("memory/memory.oom_control")]
        );
        assert_eq!(candidates("nonsense", root), Vec::<PathBuf>::new());
    }

    #[test]
    fn kills_are_counted_from_the_start_on() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("memory.events");
        fs::write(&file, "low 0\noom 7\noom_kill 3\noom_group_kill 0\n").unwrap();
        let mut watched = OutOfMemory { seen: count(&file).unwrap(), file: Some(file.clone()) };
        assert_eq!(watched.has_killed(), Some(false));
        fs::write(&file, "oom 8\noom_kill 4\n").unwrap();
        assert_eq!((watched.has_killed(), watched.has_killed()), (Some(true), Some(false)));
        assert_eq!(OutOfMemory { file: None, seen: 0 }.has_killed(), None);
    }
}
