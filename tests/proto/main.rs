//! The protocol ring, attacked from outside: a module per theme, a test per case of the threat
//! catalogue, whose id stands in the test's documentation.

#[path = "../forge/mod.rs"]
mod forge;

mod approval;
mod audit;
mod batch;
mod breaker;
mod canonical;
mod chain;
mod classes;
mod decisions;
mod envelope;
mod evidence;
mod freshness;
mod identity;
mod judge;
mod policy;
mod reply;
mod resources;
mod revocation;
mod schedules;
mod score;
mod served;
mod tags;
