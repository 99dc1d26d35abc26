//! dirs
