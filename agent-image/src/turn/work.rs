//! The work on one turn: rounds of a question to the model and the use of its tools.

use std::time::Duration;

use agentbot_wire::{ToolCall, ToolStatus, TurnRun};
use serde_json::Value;
use tokio::time::timeout;

use super::about::{About, MAX_ROUNDS};
use super::live::Outcome;
use super::question::Question;
use super::{Bench, Shown, history};
use crate::kit::{self, Used};
use crate::link::read_nonce;
use crate::model::{self, Call, Calls, Fault, clean};

/// A connection that broke may be the daemon's end: so long until the link shows it.
const GRACE: Duration = Duration::from_millis(500);
/// Times that a question is asked again because the daemon was restarted.
const MAX_RESTARTS: u32 = 10;

/// What the model said in one round.
struct Said {
    text: String,
    calls: Vec<Call>,
    /// The answer went over its limit and was cut.
    is_cut: bool,
}

/// Works on a turn until it has an answer, or a reason why it has none.
pub async fn answer(bench: &Bench<'_>, run: &TurnRun, shown: &Shown<'_>) -> Outcome {
    let about = bench.desk.about();
    let today = jiff::Timestamp::now().strftime("%A, %Y-%m-%d").to_string();
    let mut question = Question::new(&about, &today, &run.message);
    match history::before(bench.desk, &run.message, question.room()).await {
        Ok(before) => question.put_history(&before),
        Err(error) => {
            let message = format!("the conversation's history could not be read: {}", error.message);
            return Outcome::failed(error.code.as_str(), message, error.hint);
        }
    }
    for round in 1..=about.max_turns {
        let body = question.body(round == about.max_turns);
        let said = match round_of(bench, run, shown, &about, &body).await {
            Ok(said) => said,
            Err(outcome) => return outcome,
        };
        if said.calls.is_empty() || said.is_cut {
            return finished(bench, run, &about);
        }
        if round == about.max_turns {
            break;
        }
        let mut uses = Vec::with_capacity(said.calls.len());
        for call in said.calls {
            let Used { content, .. } = used(bench, run, shown, &call).await;
            uses.push((call, content));
        }
        question.put_round(said.text, uses);
    }
    let message = format!("{} used tools in {} rounds and gave no answer", about.model_name(), about.max_turns);
    Outcome::failed("model_failed", message, Some(more_rounds(about.max_turns)))
}

/// What helps a model that is not done after so many rounds.
fn more_rounds(rounds: u64) -> String {
    if rounds >= MAX_ROUNDS {
        return "ask for it in smaller steps".to_owned();
    }
    let more = rounds.saturating_mul(2).min(MAX_ROUNDS);
    format!("`agentbotctl provision NAME --config '{{\"max_turns\":{more}}}'` makes an agent that may use more rounds")
}

fn finished(bench: &Bench<'_>, run: &TurnRun, about: &About) -> Outcome {
    let text = bench.desk.with(&run.turn, |live| live.text().to_owned()).unwrap_or_default();
    if text.trim().is_empty() {
        let message = format!("{} gave an empty answer", about.model_name());
        return Outcome::failed("model_failed", message, Some("ask again, or ask another model".to_owned()));
    }
    Outcome::Done(text)
}

/// One round. A daemon that is restarted in the middle costs time, not the answer: what the round had said is taken
/// back and it begins again.
async fn round_of(
    bench: &Bench<'_>,
    run: &TurnRun,
    shown: &Shown<'_>,
    about: &About,
    body: &[u8],
) -> Result<Said, Outcome> {
    let start = bench.desk.with(&run.turn, |live| live.len()).unwrap_or_default();
    let mut restarts = 0;
    loop {
        let mut line = bench.desk.line();
        let before = *line.borrow_and_update();
        let fault = match listen(bench, run, shown, body.to_vec()).await {
            Ok(said) => return Ok(said),
            Err(fault) => fault,
        };
        let hint = match &fault {
            Fault::Model { hint, .. } => hint.clone(),
            Fault::Broken(_) | Fault::Unfinished => {
                let moved = timeout(GRACE, line.wait_for(|line| !before.up || *line != before)).await.is_ok();
                if moved && restarts < MAX_RESTARTS {
                    restarts += 1;
                    bench.log.info(&format!("{} begins a round again: {fault}", run.turn));
                    bench.desk.with(&run.turn, |live| live.rewind(start));
                    // The sender lives as long as the desk.
                    let _ = line.wait_for(|line| line.up).await;
                    continue;
                }
                None
            }
        };
        let hint = hint.or_else(|| Some("`agentbotctl model test` asks the model without an agent".to_owned()));
        return Err(Outcome::failed("model_failed", format!("{} failed: {fault}", about.model_name()), hint));
    }
}

/// Asks once and lets the answer through as it comes.
async fn listen(bench: &Bench<'_>, run: &TurnRun, shown: &Shown<'_>, body: Vec<u8>) -> Result<Said, Fault> {
    let nonce = read_nonce(&bench.socket.with_file_name("nonce"))
        .map_err(|_| Fault::Broken("the nonce cannot be read".to_owned()))?;
    let mut answer = model::ask(&bench.socket, &nonce, body).await?;
    let (mut said, mut calls) = (Said { text: String::new(), calls: Vec::new(), is_cut: false }, Calls::default());
    let mut is_ended = false;
    while let Some(chunk) = answer.next().await? {
        let Some(choice) = chunk.choices.into_iter().next() else { continue };
        is_ended |= choice.finish_reason.is_some();
        let Some(delta) = choice.delta else { continue };
        for piece in delta.tool_calls.into_iter().flatten() {
            calls.push(piece).map_err(Fault::model)?;
        }
        let Some(text) = delta.content.filter(|text| !text.is_empty()) else {
            // Thoughts that are not shown, or the arguments of a tool: long ones must not look like silence.
            bench.desk.with(&run.turn, |live| live.think());
            continue;
        };
        shown.note().await;
        let is_first = said.text.is_empty();
        let fits = bench.desk.with(&run.turn, |live| {
            // What two rounds say is told apart.
            let apart = !is_first || live.len() == 0 || live.append("\n\n");
            apart && live.append(&text)
        });
        said.text.push_str(&text);
        if fits != Some(true) {
            said.is_cut = true;
            return Ok(said);
        }
    }
    said.calls = calls.whole();
    if !is_ended && !answer.is_complete() {
        return Err(Fault::Unfinished);
    }
    Ok(said)
}

/// Uses a tool, telling so before and after.
async fn used(bench: &Bench<'_>, run: &TurnRun, shown: &Shown<'_>, call: &Call) -> Used {
    let arguments: Result<Value, _> = if call.arguments.trim().is_empty() {
        Ok(Value::Object(serde_json::Map::new()))
    } else {
        serde_json::from_str(&call.arguments)
    };
    let tell = |status, detail: String| {
        let (id, name, detail) = (call.id.clone(), call.name.clone(), Some(clean(&detail)));
        bench.desk.tool(&run.turn, ToolCall { id, name, status, detail });
    };
    shown.note().await;
    let used = match arguments {
        Ok(arguments) => {
            tell(ToolStatus::Started, kit::described(&call.name, &arguments));
            kit::work(bench.desk, &bench.workspace, &call.name, arguments).await
        }
        Err(error) => {
            tell(ToolStatus::Started, call.name.clone());
            Used::failed(format!("the arguments are not JSON: {error}"))
        }
    };
    tell(if used.ok { ToolStatus::Succeeded } else { ToolStatus::Failed }, used.detail.clone());
    used
}
