//! What a model is told of the conversation before the message that it answers.

use agentbot_wire::{ConversationId, History, HistoryParams, MAX_HISTORY_PAGE, Message, Sender, TurnId, method};

use super::desk::Desk;

/// Pages that are read at most.
const MAX_PAGES: usize = 64;
/// What a message costs beside its text, in bytes.
const OVERHEAD: usize = 32;

/// Reads a conversation backwards until `room` bytes are full, and chooses what belongs before `message`.
///
/// # Errors
/// When the daemon does not give it.
pub async fn before(desk: &Desk, message: &Message, room: usize) -> Result<Vec<Message>, agentbot_wire::ApiError> {
    let mut all: Vec<Message> = Vec::new();
    let mut size = 0;
    for _ in 0..MAX_PAGES {
        let params = params(&message.conversation, all.first().map(|oldest| oldest.seq));
        let History { messages, more } = desk.ask(method::CHAT_HISTORY, &params).await?;
        // A daemon that gives the same page again would be asked without end.
        let older = |seq: u64| all.first().is_none_or(|oldest| seq < oldest.seq);
        let page: Vec<Message> = messages.into_iter().filter(|message| older(message.seq)).collect();
        size += page.iter().map(cost).sum::<usize>();
        let is_last = page.is_empty() || !more || size >= room;
        all.splice(0..0, page);
        if is_last {
            break;
        }
    }
    Ok(choose(all, message, room))
}

fn params(conversation: &ConversationId, before_seq: Option<u64>) -> HistoryParams {
    HistoryParams { conversation: conversation.clone(), before_seq, after_seq: None, limit: Some(MAX_HISTORY_PAGE) }
}

fn cost(message: &Message) -> usize {
    message.content.len() + OVERHEAD
}

/// Of the messages of a conversation those that come before `current`, each answer behind its question, the newest that
/// fit into `room`. Messages that wait for their own turn, what the daemon said, and earlier tries at the same answer
/// are left out.
fn choose(all: Vec<Message>, current: &Message, room: usize) -> Vec<Message> {
    let asked: Vec<(TurnId, u64)> = all
        .iter()
        .filter(|message| message.sender == Sender::User && message.seq < current.seq)
        .filter_map(|message| Some((message.turn.clone()?, message.seq)))
        .collect();
    let question = |message: &Message| {
        let turn = message.turn.as_ref()?;
        asked.iter().find(|(asked, _)| asked == turn).map(|(_, seq)| *seq)
    };
    let mut chosen: Vec<(u64, Message)> = all
        .into_iter()
        .filter_map(|message| match message.sender {
            Sender::User => (message.seq < current.seq).then_some((message.seq, message)),
            Sender::Agent if message.turn.is_some() && message.turn == current.turn => None,
            Sender::Agent => match question(&message) {
                Some(seq) => Some((seq, message)),
                None => (message.seq < current.seq).then_some((message.seq, message)),
            },
            Sender::System => None,
        })
        .collect();
    chosen.sort_by_key(|(place, message)| (*place, message.seq));
    let mut left = room;
    let fitting = chosen.iter().rev().take_while(|(_, message)| match left.checked_sub(cost(message)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    let kept = fitting.count();
    chosen.split_off(chosen.len() - kept).into_iter().map(|(_, message)| message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(seq: u64, sender: &str, turn: Option<u64>) -> Message {
        let id = |prefix: &str, number: u64| format!("{prefix}_{number:026}");
        serde_json::from_value(json!({
            "id": id("msg", seq), "agentId": id("ins", 1), "conversation": id("cnv", 1), "sender": sender,
            "content": format!("{seq:08}"), "timestamp": "2026-01-02T03:04:05Z", "platform": "ws", "seq": seq,
            "turn": turn.map(|turn| id("trn", turn)),
        }))
        .unwrap()
    }

    fn chosen(all: &[(u64, &str, u64)], current: u64, room: usize) -> Vec<u64> {
        let all: Vec<Message> = all.iter().map(|(seq, sender, turn)| message(*seq, sender, Some(*turn))).collect();
        let current = all.iter().find(|message| message.seq == current).unwrap().clone();
        choose(all, &current, room).into_iter().map(|message| message.seq).collect()
    }

    #[test]
    fn what_came_before_is_told_and_the_message_itself_is_not() {
        let all = [(1, "user", 1), (2, "agent", 1), (3, "user", 2)];
        assert_eq!(chosen(&all, 3, 10_000), [1, 2]);
    }

    #[test]
    fn an_answer_that_came_while_the_message_waited_stands_behind_its_question() {
        let all = [(1, "user", 1), (2, "user", 2), (3, "user", 3), (4, "user", 4), (5, "agent", 1), (6, "agent", 2)];
        assert_eq!(chosen(&all, 3, 10_000), [1, 5, 2, 6]);
    }

    #[test]
    fn a_retry_does_not_see_what_came_later_or_failed_before() {
        let all = [(1, "user", 1), (2, "agent", 1), (3, "system", 1), (4, "user", 2), (5, "agent", 2)];
        assert_eq!(chosen(&all, 1, 10_000), [0_u64; 0]);
        let all = [(1, "user", 1), (2, "system", 1), (3, "user", 2)];
        assert_eq!(chosen(&all, 3, 10_000), [1]);
    }

    #[test]
    fn what_exactly_fits_is_told_and_one_byte_less_leaves_the_oldest_out() {
        let all = [(1, "user", 1), (2, "agent", 1), (3, "user", 2)];
        assert_eq!(chosen(&all, 3, 2 * (8 + OVERHEAD)), [1, 2]);
        assert_eq!(chosen(&all, 3, 2 * (8 + OVERHEAD) - 1), [2]);
        assert!(chosen(&all, 3, 0).is_empty());
    }

    #[test]
    fn an_answer_without_its_question_keeps_its_place() {
        let all = vec![message(5, "agent", None), message(6, "user", Some(3)), message(7, "agent", None)];
        let current = all[1].clone();
        assert_eq!(choose(all, &current, 10_000).len(), 1);
    }
}
