//! Which agent somebody means, and may mean.

use super::accept::denied;
use super::state::Denied;
use crate::error::{Error, Result};
use crate::identity::Actor;
use crate::store::instances::{self, Instance};
use crate::store::{Connection, summaries};

/// Names that are offered to somebody who named none.
const CHOICES: usize = 20;

/// The living agent that is meant: the named one, or without a name the only one that the actor has. Somebody else's is
/// answered like one that there is not.
///
/// # Errors
/// `not_found`, also for a deleted agent; `invalid` with the choices when none is named and there is not just one.
pub fn meant(conn: &Connection, actor: &Actor, named: Option<&str>) -> Result<Instance> {
    let own = actor.only_agent();
    let found = match (named, own) {
        (Some(named), _) => instances::find(conn, &actor.tenant(), named)?,
        (None, Some(own)) => instances::get(conn, own)?.ok_or_else(|| instances::missing(own.as_str()))?,
        (None, None) => sole(conn, actor)?,
    };
    if own.is_some_and(|own| *own != found.id) {
        return Err(instances::missing(named.unwrap_or_default()));
    }
    if found.desired.is_gone() { Err(denied(Denied::Deleted, &found)) } else { Ok(found) }
}

fn sole(conn: &Connection, actor: &Actor) -> Result<Instance> {
    let living = summaries::list(conn, &actor.tenant(), false)?;
    if let [only] = living.as_slice() {
        return instances::find(conn, &actor.tenant(), only.id.as_str());
    }
    let (message, hint) = if living.is_empty() {
        ("there is no agent yet", "`agentbotctl provision NAME` makes one".to_owned())
    } else {
        let names: Vec<&str> = living.iter().take(CHOICES).map(|agent| agent.name.as_str()).collect();
        let more = if living.len() > CHOICES { " and others" } else { "" };
        ("which of your agents is meant?", format!("agentId is one of {}{more}", names.join(", ")))
    };
    Err(Error::invalid("agentId", message).hint(hint))
}
