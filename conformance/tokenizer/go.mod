module hearth/conformance/tokenizer

go 1.26.0

require hearth v0.0.0

require github.com/tiktoken-go/tokenizer v0.10.0

require (
	github.com/dlclark/regexp2/v2 v2.12.0 // indirect
	github.com/pkoukk/tiktoken-go-loader v0.0.2 // indirect
)

replace hearth => ../..
