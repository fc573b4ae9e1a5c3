//! The integration tests: one program, a module per theme. Run them with `scripts/test`.

mod authority;
mod bus_conformance;
mod bus_faults;
mod bus_store;
mod bus_supervision;
mod client_approvals;
mod client_audit;
mod client_batches;
mod client_breaker;
mod client_conformance;
mod client_dispatch;
mod client_freshness;
mod client_grants;
mod client_hostile_bus;
mod client_observability;
mod client_sessions;
mod client_shared_replay;
mod example_swarm;
mod handshake;
mod layering;
mod nats_permissions;
mod served_mesh;
mod support;
mod verifier_enrol;
mod verifier_requests;
