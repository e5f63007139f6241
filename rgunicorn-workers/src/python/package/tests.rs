use pyo3::prelude::*;

use super::SOURCES;
use crate::python::testing::{attached, get, run};

#[test]
fn every_module_can_be_imported_and_shows_its_source() {
    attached(|py| {
        super::install(py).unwrap();
        for (name, source, _) in SOURCES {
            let module = py.import(*name).unwrap();
            let shown = py.import("inspect").unwrap().call_method1("getsource", (module,)).unwrap();
            assert_eq!(shown.extract::<String>().unwrap(), *source);
        }
    });
}

#[test]
fn what_is_not_there_says_where_it_is() {
    attached(|py| {
        super::install(py).unwrap();
        let error = run(py, "import gunicorn.http.wsgi").unwrap_err().to_string();
        assert!(error.contains("pip install gunicorn"), "{error}");
    });
}

#[test]
fn classes_are_pickled_and_tracebacks_show_lines() {
    attached(|py| {
        super::install(py).unwrap();
        let code = "import pickle, traceback\n\
                    from gunicorn.workers.base import Worker\n\
                    same = pickle.loads(pickle.dumps(Worker)) is Worker\n\
                    try:\n    Worker.run(object())\nexcept NotImplementedError:\n    text = traceback.format_exc()\n\
                    r = same, text";
        let (same, text): (bool, String) = get(py, code, "r").extract().unwrap();
        assert!(same);
        assert!(text.contains("raise NotImplementedError(f\""), "{text}");
    });
}

#[test]
fn settings_have_their_defaults_and_their_rules() {
    attached(|py| {
        super::install(py).unwrap();
        let code = "import os\n\
                    from gunicorn.config import AccessLogFormat, Config\n\
                    cfg = Config()\n\
                    assert cfg.bind == ['127.0.0.1:8000'] and cfg.timeout == 30 and cfg.uid == os.geteuid()\n\
                    assert cfg.address == [('127.0.0.1', 8000)] and cfg.env == {} and not cfg.is_ssl\n\
                    assert cfg.settings['backlog'].value == 2048 and cfg.sendfile is True\n\
                    assert AccessLogFormat.default == cfg.access_log_format\n\
                    cfg.post_fork(None, None)\n\
                    assert cfg.ssl_context(cfg, lambda: 7) == 7\n\
                    cfg.set('workers', '3')\n\
                    cfg.set('raw_env', ['A=b=c'])\n\
                    assert cfg.workers == 3 and cfg.env == {'A': 'b=c'}\n\
                    try:\n    cfg.workers = 4\nexcept AttributeError as error:\n    r = [str(error)]\n\
                    try:\n    cfg.set('workers', 'many')\nexcept ValueError as error:\n    r.append(str(error))\n\
                    try:\n    cfg.nonsense\nexcept AttributeError as error:\n    r.append(str(error))";
        let errors: Vec<String> = get(py, code, "r").extract().unwrap();
        assert!(errors[0].contains("use set('workers'"), "{errors:?}");
        assert!(errors[1].starts_with("workers: 'many' is not"), "{errors:?}");
        assert!(errors[2].contains("No configuration setting for: nonsense"), "{errors:?}");
    });
}
