module keyless.test/gitsign

go 1.26.0

require github.com/sigstore/gitsign v0.17.1
