// SPDX-License-Identifier: MIT OR Apache-2.0
//! `authentication`: which adverts carry a password, and which only seem to.

use super::super::super::diag::{Code, Diagnostic};
use super::super::super::model::{Auth, Family, VrrpVersion};
use super::super::super::raw::AuthType;
use super::super::super::source::Span;
use super::Resolver;

impl Resolver<'_> {
    /// What adverts carry; `None` wherever keepalived would drop it.
    pub(super) fn auth(&mut self, version: VrrpVersion, family: Family) -> Auth {
        let raw = self.raw;
        let pass = raw.auth_pass.as_ref();
        let Some(kind) = raw.auth_type else {
            if let Some(pass) = pass {
                self.no_auth(pass.span, "`auth_pass` without `auth_type`");
            }
            return Auth::None;
        };
        match kind.value {
            AuthType::None => return Auth::None,
            AuthType::Ah | AuthType::Pass => {}
        }
        if version == VrrpVersion::V3 {
            self.no_auth(kind.span, "version 3 has no authentication");
            return Auth::None;
        }
        if self.strict() {
            self.no_auth(kind.span, "strict mode has no authentication");
            return Auth::None;
        }
        let Some(pass) = pass else {
            self.no_auth(kind.span, "`auth_type` without `auth_pass`");
            return Auth::None;
        };
        let password = self.password(&pass.value, pass.span);
        if kind.value == AuthType::Pass {
            return Auth::Pass(password);
        }
        if family == Family::V6 {
            self.no_auth(kind.span, "there is no `auth_type AH` over IPv6");
            return Auth::None;
        }
        Auth::Ah(password)
    }

    fn no_auth(&mut self, span: Span, because: &str) {
        self.diagnostics.push(
            Diagnostic::warning(
                Code::Conflict,
                span,
                format!("{because}: adverts are not authenticated"),
            )
            .hint("keepalived does the same; both hosts of a pair must agree"),
        );
    }

    /// RFC 2338 §5.3.10: eight bytes, padded with zeros.
    fn password(&mut self, text: &str, span: Span) -> [u8; 8] {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        if text.len() > bytes.len() {
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::PasswordTruncated,
                    span,
                    format!(
                        "`auth_pass` is cut to {} bytes, as VRRP carries no more",
                        bytes.len()
                    ),
                )
                .hint("keepalived cuts it the same way, so a pair still agrees"),
            );
        }
        bytes
    }
}
