//! Makes tasks of conversations, and has them begin at once: most requests are answered in the first step, for which
//! nobody has to wait in the loop's queue.
//!
//! CPython 3.12 has a word for it, `eager_start`. In 3.11 a task asks its loop for its first step, by `call_soon`; here it
//! gets to see another `call_soon` while it is made, which keeps the step, and the step is called then: in the task's
//! context, and by a callback of the loop, as the loop would. So it is a task as any other from the beginning, which
//! `current_task`, `cancel` and whoever looks at its context see.

use std::sync::Mutex;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::lock;
use super::shared::complain;

/// How tasks are made.
pub(super) struct Tasks {
    /// `asyncio.Task`, or the loop's `create_task` where a task factory was set.
    make: Py<PyAny>,
    arguments: Py<PyDict>,
    by_hand: Option<ByHand>,
}

/// What it takes to call a task's first step.
struct ByHand {
    /// The loop's own attributes, among which the other `call_soon` is for a moment.
    attributes: Py<PyDict>,
    catcher: Py<Catcher>,
}

impl Tasks {
    /// Makes tasks of `event_loop` by calling `make`; with `by_hand`, whose first steps are to be called by ourselves.
    pub(super) fn new(
        event_loop: &Bound<'_, PyAny>,
        make: Py<PyAny>,
        arguments: Py<PyDict>,
        by_hand: bool,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let attributes = event_loop.getattr_opt(intern!(py, "__dict__"))?;
        let attributes = attributes.and_then(|attributes| attributes.cast_into::<PyDict>().ok());
        let by_hand = match attributes.filter(|_| by_hand) {
            // Somebody else has had the same idea.
            Some(attributes) if attributes.contains(intern!(py, "call_soon"))? => None,
            Some(attributes) => {
                let call_soon = event_loop.getattr(intern!(py, "call_soon"))?.unbind();
                let catcher = Catcher { call_soon, caught: Mutex::default() };
                Some(ByHand { attributes: attributes.unbind(), catcher: Py::new(py, catcher)? })
            }
            None => None,
        };
        Ok(Tasks { make, arguments, by_hand })
    }

    /// Makes a task of what looks like a coroutine. To be called by a callback of the loop, not by a task of it.
    pub(super) fn start<'py>(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        let make = || self.make.bind(py).call((coroutine,), Some(self.arguments.bind(py)));
        let Some(ByHand { attributes, catcher }) = &self.by_hand else { return make() };
        let (attributes, call_soon) = (attributes.bind(py), intern!(py, "call_soon"));
        attributes.set_item(call_soon, catcher)?;
        let task = make();
        attributes.del_item(call_soon)?;
        let caught = std::mem::take(&mut *lock(&catcher.get().caught));
        let task = task?;
        for (step, context) in caught {
            let (step, context) = (step.bind(py), context.bind(py));
            // Others are of tasks that a finalizer has made in the meantime.
            let mut later = !step.getattr(intern!(py, "__self__"))?.is(&task);
            if !later && let Err(error) = context.call_method1(intern!(py, "run"), (step,)) {
                // What its application raises is the task's, but for what is to end the whole process. A step that could
                // not be taken is left to the loop.
                later = !task.call_method0(intern!(py, "done"))?.is_truthy()?;
                if !later {
                    complain(py, &error);
                }
            }
            if later {
                let arguments = PyDict::new(py);
                arguments.set_item(intern!(py, "context"), context)?;
                catcher.get().call_soon.bind(py).call((step,), Some(&arguments))?;
            }
        }
        Ok(task)
    }
}

/// The other `call_soon`.
#[pyclass(frozen, module = "rgunicorn")]
struct Catcher {
    /// The loop's own.
    call_soon: Py<PyAny>,
    /// First steps of tasks, with their contexts.
    caught: Mutex<Vec<(Py<PyAny>, Py<PyAny>)>>,
}

#[pymethods]
impl Catcher {
    #[pyo3(signature = (*arguments, **names))]
    fn __call__<'py>(
        &self,
        arguments: &Bound<'py, PyTuple>,
        names: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = arguments.py();
        if arguments.len() == 1
            && let Some(names) = names
            && let Some(context) = names.get_item(intern!(py, "context"))?
        {
            let step = arguments.get_item(0)?;
            if step.get_type().name()? == "TaskStepMethWrapper" {
                lock(&self.caught).push((step.unbind(), context.unbind()));
                return Ok(py.None().into_bound(py));
            }
        }
        self.call_soon.bind(py).call(arguments, names)
    }
}
