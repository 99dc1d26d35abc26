//! Group 7: the end.

use agentbot_tests::{RawFrame, opcode};

use super::cases::{Case, PROTOCOL, SHAPE, Want, case, request};

const ECHO: Want = Want::Close(&[1000]);

/// Closes of every shape, and what comes after them.
pub fn closes() -> Vec<Case> {
    let (text, answer) = request(100);
    let message = || RawFrame::text(text.clone());
    let ping = || RawFrame::new(opcode::PING, "");
    let bare = |payload: &[u8]| RawFrame::new(opcode::CLOSE, payload);
    vec![
        case("7.1.1 a message, then a close", [message(), RawFrame::close(1000, "")], &[answer, ECHO]),
        case("7.1.2 two closes", [RawFrame::close(1000, ""), RawFrame::close(1000, "")], &[ECHO]),
        case("7.1.3 a ping after the close", [RawFrame::close(1000, ""), ping()], &[ECHO]),
        case("7.1.4 a message after the close", [RawFrame::close(1000, ""), message()], &[ECHO]),
        case("7.1.5 a close within a message", [message().not_last(), RawFrame::close(1000, "")], &[ECHO]),
        case("7.3.1 a close without a code", [bare(b"")], &[Want::EmptyClose]),
        case("7.3.2 a close with half a code", [bare(b"a")], &[PROTOCOL]),
        case("7.3.3 a close with a code", [RawFrame::close(1000, "")], &[ECHO]),
        case("7.3.4 a close with a reason", [RawFrame::close(1000, "Hello World!")], &[ECHO]),
        case("7.3.5 the longest reason", [RawFrame::close(1000, "*".repeat(123))], &[ECHO]),
        case("7.3.6 a reason that is too long", [RawFrame::close(1000, "*".repeat(124))], &[PROTOCOL]),
        case("7.5.1 a reason that is not UTF-8", [RawFrame::close(1000, b"\xce\xba\xed\xa0\x80")], &[SHAPE]),
    ]
}

/// Codes that may be sent, and codes that may not.
pub fn codes() -> Vec<Case> {
    const GOOD: [&[u16]; 13] = [
        &[1000],
        &[1001],
        &[1002],
        &[1003],
        &[1007],
        &[1008],
        &[1009],
        &[1010],
        &[1011],
        &[3000],
        &[3999],
        &[4000],
        &[4999],
    ];
    const BAD: [u16; 11] = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000];
    let good = GOOD
        .into_iter()
        .map(|codes| case(format!("7.7 code {}", codes[0]), [RawFrame::close(codes[0], "")], &[Want::Close(codes)]));
    let bad = BAD.into_iter().map(|code| case(format!("7.9 code {code}"), [RawFrame::close(code, "")], &[PROTOCOL]));
    good.chain(bad).collect()
}
