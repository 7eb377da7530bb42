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
