//! The same on may, which brings its scheduler, with one worker thread.

use std::sync::{Arc, Mutex, Once};

use may::coroutine;

use crate::{LOOKS, Load, STACK, Threads, thread};

pub fn run(load: Load) -> Threads {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // In words.
        may::config().set_workers(1).set_stack_size(STACK / size_of::<usize>());
    });
    let threads = Arc::new(Mutex::new(Threads::new()));
    let coroutines: Vec<_> = (0..load.coroutines)
        .map(|_| {
            let threads = Arc::clone(&threads);
            let body = move || {
                let look = || threads.lock().expect("nobody panics").insert(thread());
                for time in 0..load.times {
                    if time < LOOKS {
                        look();
                    }
                    match load.wait {
                        None => coroutine::yield_now(),
                        Some(wait) => coroutine::sleep(wait),
                    }
                    if time < LOOKS {
                        look();
                    }
                }
            };
            // SAFETY: it uses no thread-local variables across waits, and little of its stack.
            unsafe { coroutine::spawn(body) }
        })
        .collect();
    for coroutine in coroutines {
        coroutine.join().expect("nobody panics");
    }
    std::mem::take(&mut threads.lock().expect("nobody panics"))
}
