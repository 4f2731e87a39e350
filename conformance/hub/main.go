// Hub serves a folder as the repository acme/tiny of a Hugging Face hub, for check.py. It writes its address to a file
// and one line for each request to standard output.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"hearth/internal/testhub"
)

func main() {
	address := flag.String("address-file", "", "where to write the hub's address")
	flag.Parse()
	h := testhub.New()
	files := map[string][]byte{"README.md": []byte("# tiny"), "metal/model.bin": []byte("GPT-OSS v1.0")}
	for i, prefix := range []string{"", "original/"} {
		add(files, prefix, flag.Arg(i))
	}
	fmt.Println("commit", h.Commit("acme/tiny", "main", files))
	h.Fault = func(r testhub.Request) testhub.Fault {
		fmt.Println(r.Host, r.Method, r.From, r.Path)
		return testhub.Fault{}
	}
	h.Start()
	defer h.Close()
	if err := os.WriteFile(*address, []byte(h.URL()), 0o666); err != nil {
		log.Fatal(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
}

func add(files map[string][]byte, prefix, dir string) {
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(strings.TrimSuffix(dir, "/") + "/" + name)
		files[prefix+name] = b
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}
