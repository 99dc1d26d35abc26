//! Which agent, conversation and turn somebody means, and may. What is somebody else's is answered like what is not there.

use agentbot_wire::{Code, ConversationId, ConversationView, InstanceId, TurnId};

use crate::error::{Error, Result};
use crate::identity::Actor;
use crate::store::instances::{self, Instance};
use crate::store::turns::{self, Turn};
use crate::store::{Connection, conversations, summaries};

/// The one agent that an actor may talk to or about; `None` means every agent of its tenant.
pub(super) fn bound_to(actor: &Actor) -> Option<&InstanceId> {
    match actor {
        Actor::Gateway { instance, .. } | Actor::Agent { instance, .. } => Some(instance),
        Actor::Operator { .. } | Actor::System => None,
    }
}

fn may(actor: &Actor, agent: &InstanceId) -> bool {
    bound_to(actor).is_none_or(|own| own == agent)
}

/// The agent that is meant: the one that is named, else the only one there is. It lives.
pub(super) fn agent(conn: &Connection, actor: &Actor, named: Option<&str>) -> Result<Instance> {
    let found = match (named, bound_to(actor)) {
        (Some(named), _) => instances::find(conn, &actor.tenant(), named)?,
        (None, Some(own)) => instances::get(conn, own)?.ok_or_else(|| instances::missing(own.as_str()))?,
        (None, None) => only(conn, actor)?,
    };
    if !may(actor, &found.id) {
        return Err(instances::missing(named.unwrap_or_default()));
    }
    if found.desired.is_gone() {
        return Err(Error::not_found("agent", &found.name)
            .hint(format!("it is deleted; `agentbotctl undelete {}` brings it back", found.name)));
    }
    Ok(found)
}

fn only(conn: &Connection, actor: &Actor) -> Result<Instance> {
    let tenant = actor.tenant();
    let living = summaries::list(conn, &tenant, false)?;
    match living.as_slice() {
        [one] => instances::find(conn, &tenant, one.id.as_str()),
        [] => Err(Error::not_found("agent", "?").hint("`agentbotctl provision NAME` makes one")),
        several => {
            let names: Vec<&str> = several.iter().map(|agent| agent.name.as_str()).take(20).collect();
            Err(Error::new(Code::Invalid, "agentId: there are several agents, and none is named")
                .hint(format!("name one of: {}", names.join(", "))))
        }
    }
}

/// A conversation that the actor may see, whether its agent lives or is deleted.
pub(super) fn conversation(conn: &Connection, actor: &Actor, id: &ConversationId) -> Result<ConversationView> {
    let found = conversations::get(conn, id)?.filter(|found| may(actor, &found.agent));
    found.ok_or_else(|| {
        Error::not_found("conversation", id).hint("`agentbotctl conversations NAME` lists those of an agent")
    })
}

/// A turn that the actor may see.
pub(super) fn turn(conn: &Connection, actor: &Actor, id: &TurnId) -> Result<Turn> {
    let found = turns::get(conn, id)?.filter(|found| may(actor, &found.instance));
    found.ok_or_else(|| Error::not_found("turn", id).hint("the answer to `chat.send` names it"))
}

/// Refuses what is asked with a gateway token that was replaced meanwhile. Asked inside the transaction that acts.
pub(super) fn check_token(conn: &Connection, actor: &Actor) -> Result<()> {
    if let Actor::Gateway { instance, token } = actor
        && !instances::token_is_current(conn, instance, token)?
    {
        return Err(Error::new(Code::Unauthenticated, "this gateway token is not valid any more")
            .hint("`agentbotctl token NAME` shows the present one"));
    }
    Ok(())
}
