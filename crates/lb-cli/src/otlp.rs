//! Spans of a server to a collector of OpenTelemetry's.

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use crate::Result;

/// Sends spans in the background; what is left of them when it is dropped goes then.
pub(crate) struct Spans(SdkTracerProvider);

impl Spans {
    /// To a collector at this address, by HTTP (`http://127.0.0.1:4318`).
    pub(crate) fn to(address: &str) -> Result<Self> {
        // The client wants one, plain as the address may be. Another that is there already serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoint = format!("{}/v1/traces", address.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
        let resource = Resource::builder().with_service_name("latent-briefing").build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.0.tracer("lb-serve")
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        // A collector that does not answer is no reason to fail.
        let _ = self.0.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use opentelemetry::trace::{Span, Tracer};

    use super::Spans;

    #[test]
    fn what_is_left_at_the_end_reaches_a_collector() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let heard = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
            // The name stands in the body, whole, as the bytes of a protobuf string.
            while !all.windows(9).any(|bytes| bytes == b"a-request") {
                let count = client.read(&mut buffer).unwrap();
                assert_ne!(count, 0, "{}", String::from_utf8_lossy(&all));
                all.extend(&buffer[..count]);
            }
            client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            String::from_utf8_lossy(&all).lines().next().unwrap_or_default().to_owned()
        });
        let spans = Spans::to(&format!("{address}/")).unwrap();
        spans.tracer().start("a-request").end();
        drop(spans);
        assert_eq!(heard.join().unwrap(), "POST /v1/traces HTTP/1.1");
    }
}
