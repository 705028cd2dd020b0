module keyless.test/tesseract

go 1.26

require github.com/transparency-dev/tesseract v0.1.1
