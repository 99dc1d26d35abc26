//! Groups 5, 9 and 10: messages in fragments, and how long they may be.

use agentbot_tests::{RawFrame, opcode};
use agentbot_wire::MAX_FRAME;

use super::cases::{Case, PROTOCOL, Step, TOO_LONG, Want, case, request};

/// A message in fragments of this size.
fn in_fragments(text: &[u8], size: usize) -> Vec<RawFrame> {
    let chunks: Vec<&[u8]> = text.chunks(size).collect();
    let last = chunks.len() - 1;
    let fragment = |(at, chunk): (usize, &&[u8])| {
        let frame = RawFrame::new(if at == 0 { opcode::TEXT } else { opcode::CONTINUATION }, *chunk);
        if at == last { frame } else { frame.not_last() }
    };
    chunks.iter().enumerate().map(fragment).collect()
}

/// Group 5: fragments in and out of order, control frames between them.
pub fn fragmentation() -> Vec<Case> {
    let (text, answer) = request(100);
    let two = || in_fragments(&text, 50);
    let ping = || RawFrame::new(opcode::PING, "ping");
    let pong = || Want::Pong(b"ping".to_vec());
    let rest = |payload: &str| RawFrame::new(opcode::CONTINUATION, payload);
    let between = |size: usize| {
        let fragments = in_fragments(&text, size);
        let pings = fragments.len() - 1;
        let mut frames = Vec::new();
        for (at, fragment) in fragments.into_iter().enumerate() {
            frames.push(fragment);
            if at < pings {
                frames.push(ping());
            }
        }
        let mut want = vec![pong(); pings];
        want.push(answer.clone());
        (frames, want)
    };
    let slowly = |name: &str, frames: Vec<RawFrame>, want: Vec<Want>| Case {
        name: name.to_owned(),
        send: frames.into_iter().map(Step::Slowly).collect(),
        want,
    };
    let (once, once_want) = between(50);
    let (often, often_want) = between(10);
    let mut empty = vec![RawFrame::text("").not_last(), rest("").not_last()];
    empty.push(RawFrame::new(opcode::CONTINUATION, text.clone()).not_last());
    empty.push(rest(""));
    vec![
        case("5.1 a ping in fragments", [ping().not_last(), rest("more")], &[PROTOCOL]),
        case("5.2 a pong in fragments", [RawFrame::new(opcode::PONG, "p").not_last(), rest("more")], &[PROTOCOL]),
        case("5.2 a close in fragments", [RawFrame::close(1000, "").not_last()], &[PROTOCOL]),
        case("5.3 two fragments", two(), std::slice::from_ref(&answer)),
        slowly("5.5 two fragments byte by byte", two(), vec![answer.clone()]),
        case("5.6 a ping between two fragments", once.clone(), &once_want),
        slowly("5.8 the same byte by byte", once, once_want),
        case("5.7 a ping between every two of ten fragments", often, &often_want),
        case("5.9 a continuation of nothing", [rest("what?"), ping()], &[PROTOCOL]),
        case("5.10 a continuation of nothing, not the last", [rest("what?").not_last(), ping()], &[PROTOCOL]),
        case(
            "5.11 a continuation after a whole message",
            {
                let mut frames = two();
                frames.push(rest("and?"));
                frames
            },
            &[answer.clone(), PROTOCOL],
        ),
        case(
            "5.15 a second beginning after a whole message",
            {
                let mut frames = two();
                frames.extend([rest("and?").not_last(), RawFrame::text("x")]);
                frames
            },
            &[answer.clone(), PROTOCOL],
        ),
        case(
            "5.18 a beginning within a message",
            [RawFrame::text("one").not_last(), RawFrame::text("two")],
            &[PROTOCOL],
        ),
        case(
            "5.18 bytes within a text",
            [RawFrame::text("one").not_last(), RawFrame::new(opcode::BINARY, "two")],
            &[PROTOCOL],
        ),
        case("5.19 fragments of one byte", in_fragments(&text, 1), std::slice::from_ref(&answer)),
        case("6.1 empty fragments around it", empty, std::slice::from_ref(&answer)),
        case("5.20 two messages in fragments", two().into_iter().chain(two()), &[answer.clone(), answer]),
    ]
}

/// Groups 9 and 10: up to the limit and one byte beyond, in one frame and in many.
pub fn limits() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [100_000, MAX_FRAME - 1, MAX_FRAME] {
        let (text, answer) = request(length);
        cases.push(case(
            format!("9.1 text of {length} bytes"),
            [RawFrame::text(text.clone())],
            std::slice::from_ref(&answer),
        ));
        for size in [64, 1_300, 16_384, 65_536] {
            // So many frames take long through a helper; the shorter message shows the same.
            if size >= 1_300 || length == 100_000 {
                let name = format!("9.3 text of {length} bytes in fragments of {size}");
                cases.push(case(name, in_fragments(&text, size), std::slice::from_ref(&answer)));
            }
        }
    }
    let (text, _) = request(MAX_FRAME + 1);
    cases.push(case("9.9 one byte too many in one frame", [RawFrame::text(text.clone())], &[TOO_LONG]));
    for size in [1_300, 65_536, MAX_FRAME] {
        let name = format!("9.9 one byte too many in fragments of {size}");
        cases.push(case(name, in_fragments(&text, size), &[TOO_LONG]));
    }
    let claims = |bytes: u64| RawFrame::text("").claiming(bytes);
    for bytes in [MAX_FRAME as u64 + 1, 1 << 32, (1 << 63) - 1] {
        cases.push(case(format!("9.9 a frame that says it has {bytes} bytes"), [claims(bytes)], &[TOO_LONG]));
    }
    for bytes in [1 << 63, u64::MAX] {
        let either = Want::Close(&[1002, 1009]);
        cases.push(case(format!("9.9 a frame that says it has {bytes} bytes"), [claims(bytes)], &[either]));
    }
    let (text, answer) = request(65_536);
    cases.push(case("10.1 a message that something on the way cut up", in_fragments(&text, 1_300), &[answer]));
    cases
}
