//! What each of many gets of what all of them use: seats at once, turns one after another, a pace over time, and lines in
//! the log. Keyed by whoever takes; what nobody uses is forgotten.

mod pace;
mod quiet;
mod seats;
mod turns;

pub use pace::Pace;
pub use quiet::Quiet;
pub use seats::{Seat, Seats};
pub use turns::{Turn, Turns};
