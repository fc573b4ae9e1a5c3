//! A plan as the text a nats-server reads.

use std::fmt::Write as _;

use super::Connection;
use super::MARK;
use super::Plan;
use super::PlanError;
use super::ServerTls;
use super::User;

impl Plan {
    /// Writes the plan down as configuration of a nats-server, to be used as it is or included.
    ///
    /// It holds no password, only hashes. Whoever is not in it can do nothing.
    ///
    /// # Errors
    ///
    /// [`PlanError::Text`] for a user, hash or path that cannot stand there.
    pub fn render(&self, tls: Option<&ServerTls>) -> Result<String, PlanError> {
        let mut out = format!("{MARK}{}.\n", self.mesh);
        out.push_str("# Written anew whenever registry or grants change: edit those instead.\n\n");
        if let Some(tls) = tls {
            out.push_str(&self.render_tls(tls)?);
        }
        out.push_str("authorization {\n  default_permissions {\n");
        out.push_str("    publish { deny: [\">\"] }\n    subscribe { deny: [\">\"] }\n  }\n");
        out.push_str("  users: [\n");
        for user in &self.users {
            out.push_str(&render_user(user)?);
        }
        out.push_str("  ]\n}\n");
        Ok(out)
    }

    fn render_tls(&self, tls: &ServerTls) -> Result<String, PlanError> {
        let mapped = |user: &User| matches!(user.connection, Connection::Certificate { .. });
        let mut out = String::from("tls {\n");
        let mut line = |name: &str, path: &str| -> Result<(), PlanError> {
            let path = quoted(path, "path of a TLS file")?;
            // Writing to a string does not fail.
            let _ = writeln!(out, "  {name}: {path}");
            Ok(())
        };
        line("cert_file", &tls.certificate)?;
        line("key_file", &tls.key)?;
        if let Some(ca) = &tls.ca {
            line("ca_file", ca)?;
        }
        if self.users.iter().any(mapped) {
            out.push_str("  verify_and_map: true\n");
        }
        out.push_str("}\n\n");
        Ok(out)
    }
}

fn render_user(user: &User) -> Result<String, PlanError> {
    let name = quoted(&user.connection.user(), "connection user")?;
    let login = match &user.connection {
        Connection::Password { hash, .. } => {
            format!("user: {name}\n      password: {}", quoted(hash, "hash")?)
        }
        Connection::Certificate { .. } => format!("user: {name}"),
        Connection::Nkey(_) => format!("nkey: {name}"),
    };
    let mut out = format!("    {{ # {}\n      {login}\n", user.who);
    out.push_str("      permissions {\n");
    for (half, rules) in [("publish", &user.publish), ("subscribe", &user.subscribe)] {
        let _ = writeln!(out, "        {half} {{");
        for (word, subjects) in [("allow", &rules.allow), ("deny", &rules.deny)] {
            // To a server, an empty list is none at all.
            if subjects.is_empty() {
                continue;
            }
            let _ = writeln!(out, "          {word}: [");
            for subject in subjects {
                let _ = writeln!(out, "            {}", quoted(subject, "subject")?);
            }
            out.push_str("          ]\n");
        }
        out.push_str("        }\n");
    }
    out.push_str("      }\n    }\n");
    Ok(out)
}

/// A text in quotation marks, as nats-server reads it: `\"` and `\\` are what has to be escaped, and
/// nothing that would end a line gets in.
fn quoted(text: &str, what: &'static str) -> Result<String, PlanError> {
    if text.is_empty() || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(PlanError::Text { what });
    }
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!("\"{escaped}\""))
}
