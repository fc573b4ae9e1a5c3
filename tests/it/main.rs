//! The integration tests: one program, a module per theme. Run them with `scripts/test`.

mod authority;
mod bus_conformance;
mod bus_faults;
mod bus_supervision;
mod client_audit;
mod client_batches;
mod client_conformance;
mod client_dispatch;
mod client_freshness;
mod client_grants;
mod client_hostile_bus;
mod client_observability;
mod client_sessions;
mod handshake;
mod layering;
mod support;
mod verifier_enrol;
mod verifier_requests;
mod verifier_service;
