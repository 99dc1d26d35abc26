//! Which conversation and turn somebody means, and may. What is somebody else's is answered like what is not there.

use agentbot_wire::{Code, ConversationId, ConversationView, InstanceId, TurnId};

use crate::error::{Error, Result};
use crate::identity::Actor;
use crate::store::turns::{self, Turn};
use crate::store::{Connection, conversations, instances};

fn may(actor: &Actor, agent: &InstanceId) -> bool {
    actor.only_agent().is_none_or(|own| own == agent)
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
