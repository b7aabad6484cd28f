// A registry for tests. What is below private/ is for user builder with password lab, everything else for everybody.
// Usage: registry ADDRESS FOLDER
package main

import (
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	images := registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(os.Args[2])))
	log.Fatal(http.ListenAndServe(os.Args[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Clients ask for the root first, to learn whether they will be asked who they are.
		asked := r.URL.Path == "/v2/" || strings.HasPrefix(r.URL.Path, "/v2/private/")
		if user, password, _ := r.BasicAuth(); asked && (user != "builder" || password != "lab") {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			http.Error(w, `{"errors": [{"code": "UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(w, r)
	})))
}
