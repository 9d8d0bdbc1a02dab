//! csum
