//! Benchmarks of the parts of rgunicorn that every request passes: `cargo bench -p rgunicorn-benches`.
