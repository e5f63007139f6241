//! This process's threads: whether they get on, and what they get.

use std::mem::MaybeUninit;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How long this process has run on a processor, all its threads together.
pub fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Whether any other thread of this process runs, or would if it got a processor.
pub fn others_runnable() -> bool {
    let own = nix::unistd::gettid().to_string();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return false };
    tasks.flatten().filter(|task| task.file_name() != *own).any(|task| {
        let stat = std::fs::read(task.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may itself contain some.
        let end = stat.iter().rposition(|byte| *byte == b')');
        end.and_then(|end| stat.get(end + 2)) == Some(&b'R')
    })
}

/// How much stack the system gives a thread: as a rule what `ulimit -s` said when this process was started.
pub fn default_stack_size() -> Option<usize> {
    let (mut attributes, mut size) = (MaybeUninit::<libc::pthread_attr_t>::uninit(), 0);
    // SAFETY: the attributes are initialised by the first call, read by the second and destroyed by the third.
    unsafe {
        if libc::pthread_attr_init(attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let read = libc::pthread_attr_getstacksize(attributes.as_ptr(), &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        (read == 0 && size > 0).then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_thread_that_computes_is_seen() {
        static ENOUGH: AtomicBool = AtomicBool::new(false);
        let before = processor_time();
        let thread = std::thread::spawn(|| {
            while !ENOUGH.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        assert!(others_runnable());
        while processor_time() - before < Duration::from_millis(2) {
            std::thread::yield_now();
        }
        ENOUGH.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}
