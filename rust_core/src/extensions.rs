//! `Sec-WebSocket-Extensions` (RFC 6455 section 9.1), of which one is known: permessage-deflate (RFC 7692 section 7).
//!
//! It is accepted on one condition only: both sides forget each message when the next one begins, and the server may
//! use the full window. So one compressed form fits every client, and no connection needs a compressor of its own.

use hyper::{HeaderMap, header::SEC_WEBSOCKET_EXTENSIONS};

const ACCEPTED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// To an offer that limits the window of the server, which must be told what became of that (RFC 7692 section 7.1.2.1).
const ACCEPTED_WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";

/// The header breaks the grammar, so that the handshake must fail (RFC 6455 section 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// The answer to the first offer of permessage-deflate that can be accepted; `None` where there is none.
pub fn accept_deflate(headers: &HeaderMap) -> Result<Option<&'static str>, Malformed> {
    let mut accepted = None;
    for line in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
        let mut scanner = Scanner(line.to_str().map_err(|_| Malformed)?);
        while let Some(offer) = scanner.next_offer()? {
            accepted = accepted.or_else(|| offer.answer());
        }
    }
    Ok(accepted)
}

/// One element of the header.
#[derive(Debug, PartialEq, Eq)]
struct Offer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<String>)>,
}

impl Offer<'_> {
    /// What it is accepted with; `None` where it has to be declined: another extension, a parameter that is unknown,
    /// repeated or out of range (RFC 7692 section 7.1), or a smaller window.
    fn answer(&self) -> Option<&'static str> {
        let fits = self.parameters.iter().enumerate().all(|(index, (name, value))| {
            let is_first = !self.parameters[..index].iter().any(|(earlier, _)| earlier == name);
            let is_valid = match *name {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                "server_max_window_bits" => value.as_deref() == Some("15"),
                "client_max_window_bits" => value.as_deref().is_none_or(is_window_bits),
                _ => false,
            };
            is_first && is_valid
        });
        if self.name != "permessage-deflate" || !fits {
            return None;
        }
        let names_window = self.parameters.iter().any(|(name, _)| *name == "server_max_window_bits");
        Some(if names_window { ACCEPTED_WITH_WINDOW } else { ACCEPTED })
    }
}

/// A number from 8 to 15 without leading zeros.
fn is_window_bits(value: &str) -> bool {
    matches!(value, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

/// What is left of a header line.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    /// The next element of the list; empty ones are passed over (RFC 9110 section 5.6.1.2).
    fn next_offer(&mut self) -> Result<Option<Offer<'a>>, Malformed> {
        while self.take(',') {}
        if self.0.is_empty() {
            return Ok(None);
        }
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.take(';') {
            let name = self.token()?;
            let value = if self.take('=') { Some(self.value()?) } else { None };
            parameters.push((name, value));
        }
        if self.0.is_empty() || self.0.starts_with(',') { Ok(Some(Offer { name, parameters })) } else { Err(Malformed) }
    }

    /// Passes over a separator and the white space around it, where it comes next.
    fn take(&mut self, separator: char) -> bool {
        self.0 = self.0.trim_start_matches([' ', '\t']);
        let Some(rest) = self.0.strip_prefix(separator) else { return false };
        self.0 = rest.trim_start_matches([' ', '\t']);
        true
    }

    /// A token (RFC 9110 section 5.6.2).
    fn token(&mut self) -> Result<&'a str, Malformed> {
        let end = self.0.find(|symbol: char| !is_token_symbol(symbol)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// A token, or one in quotes.
    fn value(&mut self) -> Result<String, Malformed> {
        let Some(quoted) = self.0.strip_prefix('"') else { return self.token().map(str::to_owned) };
        let mut value = String::new();
        let mut symbols = quoted.chars();
        loop {
            let mut symbol = symbols.next().ok_or(Malformed)?;
            if symbol == '"' && !value.is_empty() {
                break;
            }
            if symbol == '\\' {
                symbol = symbols.next().ok_or(Malformed)?;
            }
            if !is_token_symbol(symbol) {
                return Err(Malformed);
            }
            value.push(symbol);
        }
        self.0 = symbols.as_str();
        Ok(value)
    }
}

fn is_token_symbol(symbol: char) -> bool {
    symbol.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(symbol)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn answer(lines: &[&'static str]) -> Result<Option<&'static str>, Malformed> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(line));
        }
        accept_deflate(&headers)
    }

    #[test]
    fn what_fits_is_accepted() {
        for line in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate;client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=\"15\"",
            "permessage-deflate ; client_max_window_bits = \"1\\0\"",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ", permessage-bzip2; level=9 ,, permessage-deflate\t",
        ] {
            assert_eq!(answer(&[line]), Ok(Some(ACCEPTED)), "{line}");
        }
        let windowed = "permessage-deflate; server_max_window_bits=15; client_max_window_bits";
        assert_eq!(answer(&[windowed]), Ok(Some(ACCEPTED_WITH_WINDOW)));
    }

    #[test]
    fn what_does_not_fit_is_declined() {
        for line in [
            "",
            " , ",
            "x-webkit-deflate-frame",
            "Permessage-Deflate",
            "permessage-deflate; unknown",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=9",
            "permessage-deflate; server_max_window_bits=015",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; client_max_window_bits=1e1",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=12; client_max_window_bits=12",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        ] {
            assert_eq!(answer(&[line]), Ok(None), "{line}");
        }
        assert_eq!(answer(&[]), Ok(None));
    }

    #[test]
    fn the_first_offer_that_fits_is_answered() {
        let narrow = "permessage-deflate; server_max_window_bits=10";
        let full = "permessage-deflate; server_max_window_bits=15";
        assert_eq!(answer(&["permessage-deflate; server_max_window_bits=10, permessage-deflate"]), Ok(Some(ACCEPTED)));
        assert_eq!(answer(&[narrow, "foo; bar", full, "permessage-deflate"]), Ok(Some(ACCEPTED_WITH_WINDOW)));
        assert_eq!(answer(&["permessage-deflate", full]), Ok(Some(ACCEPTED)));
        assert_eq!(answer(&[narrow, narrow]), Ok(None));
    }

    #[test]
    fn what_breaks_the_grammar_is_malformed() {
        for line in [
            "permessage-deflate;",
            "permessage-deflate; ; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate client_max_window_bits",
            "; server_no_context_takeover",
            "foo; bar=\"\"",
            "foo; bar=\"a b\"",
            "foo; bar=\"15",
            "foo; bar=\"15\\",
            "foo; bar=\"1\"5",
            "permessage-deflate, foo=1",
            "permessage(deflate)",
        ] {
            assert_eq!(answer(&[line]), Err(Malformed), "{line}");
            assert_eq!(answer(&["permessage-deflate", line]), Err(Malformed), "{line}");
        }
        let mut headers = HeaderMap::new();
        headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_bytes(b"permessage-deflate\xff").unwrap());
        assert_eq!(accept_deflate(&headers), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(line in "([ -~\\t]|permessage-deflate|[;,=\"]){0,30}") {
            let mut headers = HeaderMap::new();
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(&line).unwrap());
            let _ = accept_deflate(&headers);
        }

        /// White space and quotes change nothing.
        #[test]
        fn an_offer_is_read_however_it_is_written(
            gaps in prop::collection::vec("[ \\t]{0,2}", 6),
            bits in 0_u8..20,
            quoted in any::<bool>(),
        ) {
            let value = if quoted { format!("\"{bits}\"") } else { bits.to_string() };
            let line = format!(
                "{}permessage-deflate{};{}client_max_window_bits{}={}{value}{}",
                gaps[0], gaps[1], gaps[2], gaps[3], gaps[4], gaps[5]
            );
            let mut headers = HeaderMap::new();
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_str(&line).unwrap());
            let expected = if (8..=15).contains(&bits) { Some(ACCEPTED) } else { None };
            prop_assert_eq!(accept_deflate(&headers), Ok(expected));
        }
    }
}
