//! A scheduler on one thread, as rgunicorn's is at its core: a queue of those that are ready, a heap of those that wait.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use crate::{LOOKS, Load, STACK, Threads, thread};

pub fn run(load: Load) -> Threads {
    let threads = Rc::new(RefCell::new(Threads::new()));
    let mut coroutines: Vec<_> = (0..load.coroutines)
        .map(|_| {
            let threads = Rc::clone(&threads);
            let stack = DefaultStack::new(STACK).expect("there is memory for a stack");
            Coroutine::with_stack(stack, move |yielder, ()| {
                for time in 0..load.times {
                    if time < LOOKS {
                        threads.borrow_mut().insert(thread());
                    }
                    yielder.suspend(load.wait);
                    if time < LOOKS {
                        threads.borrow_mut().insert(thread());
                    }
                }
            })
        })
        .collect();
    schedule(&mut coroutines);
    threads.take()
}

fn schedule(coroutines: &mut [Coroutine<(), Option<Duration>, (), DefaultStack>]) {
    let mut ready: VecDeque<_> = (0..coroutines.len()).collect();
    let mut waiting = BinaryHeap::new();
    loop {
        for _ in 0..ready.len() {
            let Some(key) = ready.pop_front() else { break };
            match coroutines[key].resume(()) {
                CoroutineResult::Yield(None) => ready.push_back(key),
                CoroutineResult::Yield(Some(wait)) => waiting.push(Reverse((Instant::now() + wait, key))),
                CoroutineResult::Return(()) => {}
            }
        }
        if ready.is_empty() {
            let Some(Reverse((due, _))) = waiting.peek() else { return };
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            ready.extend(waiting.pop().map(|Reverse((_, key))| key));
        }
    }
}
