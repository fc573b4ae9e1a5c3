//! The audit of a mesh, read from outside (protocol §17).
//!
//! Every decision of every agent is an event on `<prefix>.audit.<id>`. [`subscribe`] yields them
//! verified and in order. A plain NATS subscriber sees the same messages: an envelope frame whose
//! payload, its last bytes, is JSON lines of [`AuditRecord`].

pub use crate::client::audit_reader::AuditSubscriber;
pub use crate::client::audit_reader::subscribe;
pub use crate::proto::audit::AuditEvent;
pub use crate::proto::audit::AuditItem;
pub use crate::proto::audit::AuditRecord;
pub use crate::proto::audit::DecisionEvent;
pub use crate::proto::audit::HopEvent;
pub use crate::proto::audit::SessionRole;
pub use crate::proto::audit::Word;
