//! The integration tests: one program, a module per theme. Run them with `scripts/test`.

mod bus_conformance;
mod bus_faults;
mod bus_supervision;
mod client_conformance;
mod layering;
mod support;
